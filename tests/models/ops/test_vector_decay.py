"""Anchors of vector decay; its laws are in test_recurrence.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.scalar_decay import SCALAR_DECAY, ScalarDecayTokens
from memzoo.models.ops.vector_decay import VECTOR_DECAY, VectorDecayTokens


@pytest.fixture
def make(make_tokens):
    return lambda time, **kinds: make_tokens(
        VectorDecayTokens, (6, 5), time, channels=(6,), **kinds
    )


def test_the_reference_equals_a_loop(x64, make, make_reset):
    tokens, before = make(9)
    reset = make_reset("inside", 9)
    o, memory = VECTOR_DECAY.recurrent(tokens, before, reset=reset)
    q, k, v, log_decay = jax.tree.map(np.asarray, tokens)
    for row, head in np.ndindex(2, 2):
        state = np.asarray(before[row, head])
        for t in range(9):
            at = (row, t, head)
            state = np.zeros_like(state) if reset[row, t] else state
            state = np.diag(np.exp(log_decay[at])) @ state + np.outer(k[at], v[at])
            np.testing.assert_allclose(o[at], q[at] @ state, rtol=1e-10)
        np.testing.assert_allclose(memory[row, head], state, rtol=1e-10)


@pytest.mark.parametrize("form", ["scan", "parallel"])
def test_outputs_are_decayed_scores(x64, make, form):
    """o_i = sum over j <= i of v_j sum over k of q_ik k_jk exp(G_ik - G_jk)."""
    tokens, memory = make(37)
    o, _ = VECTOR_DECAY.chunkwise(
        tokens, jnp.zeros_like(memory), chunk_size=32, form=form
    )
    q, k, v, log_decay = jax.tree.map(np.asarray, tokens)
    total = np.cumsum(log_decay, axis=1)
    decay = np.exp(total[:, :, None] - total[:, None])
    scores = np.einsum("bthk,bshk,btshk->bhts", q, k, decay)
    expected = np.einsum("bhts,bshv->bthv", np.tril(scores), v)
    np.testing.assert_allclose(o, expected, rtol=1e-9, atol=1e-10)


def test_equal_channels_are_scalar_decay(x64, make):
    tokens, memory = make(37)
    q, k, v, log_decay = tokens
    log_decay = jnp.broadcast_to(log_decay[..., :1], log_decay.shape)
    found = VECTOR_DECAY.chunkwise(VectorDecayTokens(q, k, v, log_decay), memory)
    one = ScalarDecayTokens(q, k, v, log_decay[..., 0])
    for got, wanted in zip(found, SCALAR_DECAY.recurrent(one, memory), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)
