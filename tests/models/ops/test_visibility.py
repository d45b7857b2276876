"""Skipping of key blocks: no visible key is skipped, and few others are visited."""

import jax
import numpy as np
import pytest

from memzoo.models.ops.visibility import (
    ALWAYS_VISIBLE,
    Places,
    block_visits,
    sees,
)

find_visits = jax.jit(block_visits, static_argnums=(1, 2, 3))


def visited(places, query_block, key_block, window):
    order, count = find_visits(places, query_block, key_block, window)
    order, count = np.asarray(order), np.asarray(count)
    return [list(map(int, row[:n])) for row, n in zip(order, count, strict=True)]


def in_order(time, source, first=0):
    return Places(
        np.zeros((1, time), np.int32),
        first + np.arange(time, dtype=np.int32)[None],
        np.zeros((1, source), np.int32),
        np.arange(source, dtype=np.int32)[None],
    )


def test_causal_visits_are_the_lower_triangle():
    assert visited(in_order(8, 8), 2, 4, None) == [[0], [0], [0, 1], [0, 1]]


def test_a_window_leaves_out_what_lies_before_it():
    assert visited(in_order(12, 12), 4, 4, 4) == [[0], [0, 1], [1, 2]]
    assert visited(in_order(12, 12), 4, 4, 1) == [[0], [1], [2]]


def test_empty_slots_of_a_cache_are_not_visited():
    places = in_order(4, 64, first=7)
    filled = np.where(np.arange(64) < 11, 0, -1)[None]
    assert visited(places._replace(key_segment=filled), 4, 8, None) == [[0, 1]]
    # Slots to be filled later are hidden by their position too.
    assert visited(places, 4, 8, None) == [[0, 1]]


def test_keys_that_are_always_visible_cost_their_own_block_alone():
    segment = np.where(np.arange(64) < 3, ALWAYS_VISIBLE, 0)[None]
    places = in_order(4, 64, first=60)._replace(key_segment=segment)
    assert visited(places, 4, 8, 4) == [[0, 7]]


def test_other_documents_are_not_visited():
    segment = np.repeat(np.arange(3), 8)[None]
    places = in_order(24, 24)._replace(query_segment=segment, key_segment=segment)
    assert visited(places, 4, 4, None) == [[0], [0, 1], [2], [2, 3], [4], [4, 5]]


@pytest.mark.parametrize("window", [None, 1, 5])
def test_whatever_is_seen_is_visited(window):
    rng = np.random.default_rng(0)
    find_seen = jax.jit(sees, static_argnums=1)
    for _ in range(20):
        places = Places(*rng.integers(-2, 4, (4, 2, 12), np.int32))
        always = rng.random((2, 12)) < 0.02
        segment = np.where(always, np.int32(ALWAYS_VISIBLE), places.key_segment)
        places = places._replace(key_segment=segment)
        seen = np.asarray(find_seen(places, window))
        needed = seen.reshape(2, 4, 3, 3, 4).any(axis=(0, 2, 4))
        for row, blocks in zip(needed, visited(places, 3, 4, window), strict=True):
            assert set(np.flatnonzero(row)) <= set(blocks)


def test_keys_first_is_the_transpose():
    places = in_order(3, 5, first=2)
    seen = sees(places, 2)
    assert np.array_equal(sees(places, 2, keys_first=True), seen.swapaxes(1, 2))
    assert np.array_equal(seen[0, 0], [False, True, True, False, False])
