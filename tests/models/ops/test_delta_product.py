"""Anchors and laws of the delta rule with several writes per token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.delta_product import (
    DELTA_PRODUCT,
    DeltaProductTokens,
    gated_delta_product,
    interleave,
)
from memzoo.models.ops.delta_rule import DELTA_RULE, DeltaTokens


@pytest.fixture
def make(make_tokens):
    return lambda time, **kinds: make_tokens(
        DeltaProductTokens, (6, 5), time, **({"writes": 2, "strength": 2.0} | kinds)
    )


def test_the_reference_is_a_product_of_householder_matrices(x64, make, make_reset):
    """S = (I - b2 k2 k2^T)(I - b1 k1 k1^T) a S + ..., each write on the one before."""
    tokens, before = make(9)
    reset = make_reset("inside", 9)
    o, memory = DELTA_PRODUCT.recurrent(tokens, before, reset=reset)
    q, k, v, b, log_decay = jax.tree.map(np.asarray, tokens)
    for row, head in np.ndindex(2, 2):
        state = np.asarray(before[row, head])
        for t in range(9):
            state = np.zeros_like(state) if reset[row, t] else state
            state = np.exp(log_decay[row, t, head]) * state
            for j in range(2):
                at = (row, t, j, head)
                reflection = np.eye(6) - b[at] * np.outer(k[at], k[at])
                state = reflection @ state + b[at] * np.outer(k[at], v[at])
            np.testing.assert_allclose(o[row, t, head], q[row, t, head] @ state)
        np.testing.assert_allclose(memory[row, head], state, rtol=1e-10)


@pytest.mark.parametrize(
    "decay", ["mixed", pytest.param("none", marks=pytest.mark.slow)]
)
def test_the_fast_forms_equal_the_reference(x64, make, make_reset, assert_forms, decay):
    tokens, memory = make(19, keys="correlated", decay=decay)
    assert_forms(DELTA_PRODUCT, tokens, memory, make_reset("inside", 19))


def test_one_write_is_the_delta_rule(x64, make):
    tokens, memory = make(9, writes=1)
    q, k, v, b, log_decay = tokens
    plain = DeltaTokens(q, k[:, :, 0], v[:, :, 0], b[:, :, 0], log_decay)
    jax.tree.map(np.testing.assert_array_equal, interleave(tokens), plain)
    found = gated_delta_product(
        q, k, v, write_strength=b, log_decay=log_decay, memory=memory, chunk_size=4
    )
    for got, wanted in zip(found, DELTA_RULE.recurrent(plain, memory), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)


def test_another_number_of_strengths_than_keys_is_refused(make):
    tokens, memory = make(3)
    tokens = tokens._replace(write_strength=jnp.ones((2, 3, 3, 2)))
    with pytest.raises(ValueError, match=r"axis r is 3 in write_strength .* 2 in key"):
        DELTA_PRODUCT.chunkwise(tokens, memory)
