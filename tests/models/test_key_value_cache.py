"""The ring of keys and values against a dictionary in Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.interface import Layout
from memzoo.models.key_value_cache import (
    KeyValueCache,
    extend_cache,
    extend_cache_token,
    held_positions,
    init_cache,
    latest_tokens,
)


def _held(slots, position):
    """Return each slot's token after `position` tokens, written one by one."""
    held = [-1] * slots
    for place in range(position):
        held[place % slots] = place
    return held


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_held_positions_are_those_written_last(slots):
    positions = [0, 1, 2, 3, 7, 8, 9, 20]
    found = np.asarray(held_positions(slots, jnp.array(positions)))
    wanted = [_held(slots, position) for position in positions]
    np.testing.assert_array_equal(np.maximum(found, -1), wanted)


def _tokens(batch, time):
    """Token t of row b is 100 b + t + 1 everywhere."""
    numbers = 100.0 * np.arange(batch)[:, None] + np.arange(time) + 1
    return jnp.asarray(np.broadcast_to(numbers[..., None, None], (batch, time, 2, 3)))


@pytest.mark.parametrize("slots", [3, 8])
@pytest.mark.parametrize("lengths", [None, (5, 0), (2, 5)])
def test_a_call_writes_what_its_tokens_would(slots, lengths):
    carried = jnp.array([4, 1])
    full = init_cache(2, slots, 2, 3, 3)
    before = full._replace(key=full.key - 1, value=full.value - 2)
    tokens = _tokens(2, 5)
    length = None if lengths is None else jnp.array(lengths)
    counts = np.array([5, 5] if lengths is None else lengths)
    cache = extend_cache(
        before, tokens, -tokens, carried + counts, Layout(length=length)
    )
    wanted = np.full((2, slots), -1.0)
    for row in range(2):
        for t in range(counts[row]):
            wanted[row, (int(carried[row]) + t) % slots] = 100 * row + t + 1
    np.testing.assert_array_equal(cache.key[..., 0, 0], wanted)
    np.testing.assert_array_equal(cache.key[..., 1, 2], wanted)
    untouched = wanted == -1
    np.testing.assert_array_equal(
        cache.value[..., 1, 2], np.where(untouched, -2, -wanted)
    )


def test_a_document_that_began_in_the_call_writes_its_own_tokens():
    before = init_cache(1, 4, 2, 3, 3)
    # Positions 3 and 4, then a document of three tokens.
    cache = extend_cache(before, _tokens(1, 5), _tokens(1, 5), jnp.array([3]), Layout())
    np.testing.assert_array_equal(cache.key[0, :, 0, 0], [3, 4, 5, 0])


def test_one_token_touches_one_slot_a_row():
    before = init_cache(2, 4, 2, 3, 3)
    token = _tokens(2, 1)[:, 0]
    cache = extend_cache_token(before, token, -token, jnp.array([2, 5]))
    wanted = np.zeros((2, 4))
    wanted[0, 2], wanted[1, 1] = 1, 101
    np.testing.assert_array_equal(cache.key[..., 1, 1], wanted)
    np.testing.assert_array_equal(cache.value[..., 1, 1], -wanted)


def test_a_cache_without_slots_stays_as_it_is():
    empty = init_cache(2, 0, 2, 3, 3)
    cache = extend_cache(
        empty, _tokens(2, 5), _tokens(2, 5), jnp.array([5, 5]), Layout()
    )
    assert cache is empty


def test_less_than_no_slot_is_refused():
    with pytest.raises(
        ValueError, match=r"max_length is -3; give 0 \(for one call\) or"
    ):
        init_cache(1, -3, 2, 3, 3)


def test_latest_tokens_are_newest_first():
    key = np.arange(5.0).reshape(1, 5, 1, 1)
    # After 7 tokens, slots 0 and 1 hold positions 5 and 6.
    cache = KeyValueCache(jnp.asarray(key), jnp.asarray(-key))
    latest = jax.jit(latest_tokens, static_argnums=2)
    for count, slots in ((3, [1, 0, 4]), (9, [1, 0, 4, 3, 2])):
        found, value, position = latest(cache, jnp.array([7]), count)
        np.testing.assert_array_equal(np.ravel(found), slots)
        np.testing.assert_array_equal(value, -found)
        np.testing.assert_array_equal(position[0], 6 - np.arange(len(slots)))
    np.testing.assert_array_equal(latest(cache, jnp.array([1]), 2)[2], [[0, -1]])
