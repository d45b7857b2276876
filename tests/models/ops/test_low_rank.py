"""Anchors of the low-rank transition; its laws are in test_recurrence.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.delta_rule import DELTA_RULE, DeltaTokens
from memzoo.models.ops.low_rank import LOW_RANK, LowRankTokens, low_rank_rule


@pytest.fixture
def make(make_tokens):
    return lambda time, **kinds: make_tokens(
        LowRankTokens, (6, 5), time, channels=(6,), **kinds
    )


def test_the_reference_equals_a_loop_over_separate_documents(x64, make, make_reset):
    tokens, before = make(9)
    reset = make_reset("inside", 9)
    # Read keys of any direction: those of the laws are minus the keys.
    rng = np.random.default_rng(4)
    tokens = tokens._replace(read_key=rng.standard_normal(tokens.key.shape))
    o, memory = LOW_RANK.recurrent(tokens, before, reset=reset)
    q, k, v, r, w, log_decay = jax.tree.map(np.asarray, tokens)
    for row, head in np.ndindex(2, 2):
        state = np.asarray(before[row, head])
        for t in range(9):
            at = (row, t, head)
            state = np.zeros_like(state) if reset[row, t] else state
            transition = np.diag(np.exp(log_decay[at])) + np.outer(w[at], r[at])
            state = transition @ state + np.outer(k[at], v[at])
            np.testing.assert_allclose(o[at], q[at] @ state, rtol=1e-10)
        np.testing.assert_allclose(memory[row, head], state, rtol=1e-10)


def test_a_step_erases_by_a_gradient_of_what_it_recalls(x64, make):
    """With r = -u, w = b u and no write: a step of size b on 1/2 |S^T u|^2."""
    tokens, before = make(1, decay="none")
    token = jax.tree.map(lambda x: x[:, 0], tokens)
    token = token._replace(write_key=0.7 * token.key, value=0 * token.value)

    def loss(memory):
        return 0.5 * jnp.sum(jnp.einsum("bhkv,bhk->bhv", memory, token.key) ** 2)

    _, memory = LOW_RANK.step(token, before)
    np.testing.assert_allclose(memory, before - 0.7 * jax.grad(loss)(before), rtol=1e-9)


def test_one_key_and_one_decay_are_the_delta_rule(x64, make):
    """The delta rule decays before it reads: its read key is decayed here."""
    tokens, memory = make(37)
    decay = tokens.log_decay[..., :1]
    strength = jnp.linalg.norm(tokens.write_key, axis=-1)
    q, k, v = tokens[:3]
    plain = DeltaTokens(q, k, v, strength, decay[..., 0])
    written = strength[..., None] * k
    read = -jnp.exp(decay) * k
    found = low_rank_rule(
        q,
        written,
        v,
        read_key=read,
        write_key=written,
        log_decay=decay,
        memory=memory,
        chunk_size=16,
    )
    for got, wanted in zip(found, DELTA_RULE.recurrent(plain, memory), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)
