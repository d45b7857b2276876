"""Inputs of a memory: replaceable queries, and the mask of real tokens."""

import jax.numpy as jnp
import numpy as np

from memzoo.models.memory_inputs import MemoryInputs
from memzoo.models.ops.scalar_decay import ScalarDecayTokens

ONES = jnp.ones((1, 3, 2, 4))
INPUTS = MemoryInputs(ScalarDecayTokens(ONES, 2 * ONES, 3 * ONES))


def test_the_mask_is_handed_on_and_nothing_else_changes():
    valid = jnp.array([[True, True, False]])
    masked = INPUTS.only(valid)
    assert masked.valid is valid
    assert masked.tokens is INPUTS.tokens
    assert INPUTS.only(None) is INPUTS


def test_queries_are_exchanged_alone():
    other = INPUTS.with_query(7 * ONES)
    np.testing.assert_array_equal(other.query, 7 * ONES)
    assert other.tokens.key is INPUTS.tokens.key
    assert INPUTS.with_query(None).tokens.query is None
