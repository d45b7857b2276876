"""Insertion of prefixes for a matrix memory."""

import jax.numpy as jnp
import numpy as np

from memzoo.models.memory_inputs import MemoryInputs
from memzoo.models.ops.delta_rule import DeltaTokens
from memzoo.models.ops.recurrence import identity_tokens
from memzoo.models.prefix import insert_prefixes


def _numbered(first, time):
    """Return inputs whose key is the index of their token."""
    number = first + jnp.arange(time, dtype=jnp.float32)
    return jnp.broadcast_to(number[None, :, None, None], (2, time, 1, 1))


def _insert(prefix, reset):
    time = len(prefix[0])
    prefix, reset = (jnp.asarray(x, bool) for x in (prefix, reset))
    own = _numbered(1, time)
    inputs = MemoryInputs(DeltaTokens(own, own, own, own[..., 0]))
    ahead = _numbered(101, time)
    tokens = DeltaTokens(own, ahead, ahead, ahead[..., 0])
    written = MemoryInputs(tokens)
    longer, starts, place = insert_prefixes(written, inputs, prefix, reset)
    return identity_tokens(longer.tokens, longer.valid), starts, place


def test_every_prefix_stands_before_its_document():
    prefix = [[1, 1, 0, 1, 0, 0], [0, 0, 0, 0, 1, 1]]
    reset = [[0, 0, 0, 1, 0, 1], [0, 1, 0, 0, 1, 0]]
    longer, starts, place = _insert(prefix, reset)
    np.testing.assert_array_equal(
        longer.key[..., 0, 0],
        [
            [101, 102, 1, 2, 3, 104, 4, 5, 6, 0, 0, 0],
            [1, 2, 3, 4, 105, 106, 5, 6, 0, 0, 0, 0],
        ],
    )
    np.testing.assert_array_equal(
        longer.query[..., 0, 0],
        [[0, 0, 1, 2, 3, 0, 4, 5, 6, 0, 0, 0], [1, 2, 3, 4, 0, 0, 5, 6, 0, 0, 0, 0]],
    )
    np.testing.assert_array_equal(longer.value, longer.key)
    np.testing.assert_array_equal(longer.write_strength, longer.key[..., 0])
    found = [np.flatnonzero(row).tolist() for row in starts]
    assert found == [[5, 8], [1, 4]]
    np.testing.assert_array_equal(place, [[2, 3, 4, 6, 7, 8], [0, 1, 2, 3, 6, 7]])


def test_a_row_that_is_all_prefix_and_one_without_tokens():
    longer, starts, place = _insert([[1, 1], [0, 0]], [[1, 0], [0, 0]])
    np.testing.assert_array_equal(
        longer.key[..., 0, 0], [[101, 102, 1, 2], [1, 2, 0, 0]]
    )
    np.testing.assert_array_equal(starts, [[1, 0, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(place, [[2, 3], [0, 1]])
    longer, starts, place = _insert([[], []], [[], []])
    assert longer.key.shape == (2, 0, 1, 1)
    assert starts.shape == place.shape == (2, 0)
