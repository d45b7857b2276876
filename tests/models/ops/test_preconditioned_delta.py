"""Anchors and laws of the delta rule with preconditioned keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.erase_write import ERASE_WRITE, EraseWriteTokens
from memzoo.models.ops.preconditioned_delta import (
    PRECONDITIONED_DELTA,
    PreconditionedMemory,
    PreconditionedTokens,
)


@pytest.fixture
def make(make_tokens):
    def make(time, **kinds):
        tokens, memory = make_tokens(
            PreconditionedTokens,
            PreconditionedMemory((6, 5), (6,)),
            time,
            channels=(6,),
            **kinds,
        )
        return tokens, memory._replace(covariance=memory.covariance**2)

    return make


def test_the_reference_equals_a_loop_over_separate_documents(x64, make, make_reset):
    tokens, before = make(9)
    reset = make_reset("inside", 9)
    o, after = PRECONDITIONED_DELTA.recurrent(tokens, before, reset=reset)
    q, k, v, e, strength, log_c, centre, log_a = jax.tree.map(np.asarray, tokens)
    for row, head in np.ndindex(2, 2):
        state, covariance = (np.asarray(x[row, head]) for x in before)
        for t in range(9):
            at = (row, t, head)
            if reset[row, t]:
                state, covariance = np.zeros_like(state), np.zeros_like(covariance)
            covariance = np.exp(log_c[at]) * covariance + strength[at] * k[at] ** 2
            above = np.log(covariance + 1e-6) - centre[at]
            key = k[at] * 1.5 ** (-above / (1 + np.abs(above)))
            state = np.exp(log_a[at])[:, None] * state
            state = state + np.outer(key, v[at] - state.T @ e[at])
            np.testing.assert_allclose(o[at], q[at] @ state, rtol=1e-9)
        np.testing.assert_allclose(after.memory[row, head], state, rtol=1e-9)
        np.testing.assert_allclose(after.covariance[row, head], covariance, rtol=1e-9)


@pytest.mark.parametrize(
    "decay", ["mixed", pytest.param("none", marks=pytest.mark.slow)]
)
def test_the_fast_forms_equal_the_reference(x64, make, make_reset, assert_forms, decay):
    tokens, memory = make(19, keys="correlated", decay=decay)
    assert_forms(PRECONDITIONED_DELTA, tokens, memory, make_reset("inside", 19))


def test_a_covariance_at_its_centre_leaves_the_keys(x64, make):
    """A covariance that does not change, with its logarithm as the centre."""
    tokens, memory = make(9)
    zeros = jnp.zeros_like(tokens.centre)
    held = memory._replace(covariance=jnp.full_like(memory.covariance, 0.7 - 1e-6))
    tokens = tokens._replace(
        covariance_strength=zeros,
        covariance_log_decay=zeros,
        centre=jnp.full_like(zeros, jnp.log(0.7)),
    )
    found, after = PRECONDITIONED_DELTA.chunkwise(tokens, held, chunk_size=4)
    q, k, v, e = tokens[:4]
    plain = EraseWriteTokens(q, k, v, e, tokens.log_decay)
    wanted, last = ERASE_WRITE.recurrent(plain, memory.memory)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(after.memory, last, rtol=1e-9, atol=1e-12)
