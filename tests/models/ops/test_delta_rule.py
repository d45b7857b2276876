"""Anchors of the delta rule; its laws are in test_recurrence.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.delta_rule import DELTA_RULE, DeltaTokens


@pytest.fixture
def make(make_tokens):
    return lambda time: make_tokens(DeltaTokens, (6, 5), time)


def test_a_step_is_a_gradient_step_on_the_recall_loss(x64, make):
    tokens, before = make(1)
    token = jax.tree.map(lambda x: x[:, 0], tokens)
    decayed = before * np.exp(token.log_decay)[..., None, None]

    def loss(memory):
        recalled = jnp.einsum("bhkv,bhk->bhv", memory, token.key)
        return 0.5 * jnp.sum((recalled - token.value) ** 2)

    size = token.write_strength[..., None, None]
    expected = decayed - size * jax.grad(loss)(decayed)
    o, memory = DELTA_RULE.step(token, before)
    np.testing.assert_allclose(memory, expected, rtol=1e-12)
    read = np.einsum("bhkv,bhk->bhv", expected, token.query)
    np.testing.assert_allclose(o, read, rtol=1e-12)


def test_the_reference_equals_a_loop_over_separate_documents(x64, make, make_reset):
    tokens, before = make(9)
    reset = make_reset("inside", 9)
    o, memory = DELTA_RULE.recurrent(tokens, before, reset=reset)
    tokens = jax.tree.map(np.asarray, tokens)
    for row, head in np.ndindex(2, 2):
        state = np.asarray(before[row, head])
        for t in range(9):
            at = (row, t, head)
            if reset[row, t]:
                state = np.zeros_like(state)
            state = state * np.exp(tokens.log_decay[at])
            error = tokens.value[at] - tokens.key[at] @ state
            state = state + tokens.write_strength[at] * np.outer(tokens.key[at], error)
            np.testing.assert_allclose(o[at], tokens.query[at] @ state, rtol=1e-10)
        np.testing.assert_allclose(memory[row, head], state, rtol=1e-10)


def test_every_chunk_needs_a_memory(make):
    tokens, memory = make(18)
    which = jnp.zeros((2, 3), jnp.int32)
    with pytest.raises(ValueError, match="18 tokens in chunks of 9 are 2"):
        DELTA_RULE.chunkwise(tokens, memory[:, None], which=which, chunk_size=9)
