"""Anchors of the delta rule; its laws are in test_recurrence.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.delta_rule import DELTA_RULE, DeltaTokens, gated_delta_rule


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


def test_the_function_is_the_recurrence_from_an_empty_memory(x64, make, make_reset):
    tokens, before = make(9)
    reset = make_reset("inside", 9)
    q, k, v, strength, decay = map(np.asarray, tokens)
    run = jax.jit(
        lambda q, k, v, b, g, m: gated_delta_rule(
            q, k, v, write_strength=b, log_decay=g, memory=m, reset=reset, chunk_size=4
        )
    )
    for decays, memory in ((decay, before), (None, None)):
        wanted = DELTA_RULE.recurrent(
            tokens._replace(log_decay=decays),
            jnp.zeros_like(before) if memory is None else memory,
            reset=reset,
        )
        found = run(q, k, v, strength, decays, memory)
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_heads_before_time_are_refused_by_the_name_of_the_axis(make):
    q, k, v, strength, decay = map(np.asarray, make(9)[0])
    q, k, v = (np.swapaxes(x, 1, 2) for x in (q, k, v))
    with pytest.raises(ValueError, match=r"axis t is 9 in write_strength .* check the"):
        gated_delta_rule(q, k, v, write_strength=strength, log_decay=decay)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_a_new_memory_has_the_axes_of_the_tokens(x64, make, dtype):
    tokens, memory = make(5)
    tokens = jax.tree.map(lambda x: jnp.asarray(x, dtype), tokens)
    new = DELTA_RULE.new_memory(tokens)
    assert new.shape == memory.shape
    assert new.dtype == (jnp.float64 if dtype == jnp.float64 else jnp.float32)
    assert not np.any(new)


def test_every_chunk_needs_a_memory(make):
    tokens, memory = make(18)
    which = jnp.zeros((2, 3), jnp.int32)
    with pytest.raises(ValueError, match="for 18 tokens in chunks of 9 give 2"):
        DELTA_RULE.chunkwise(tokens, memory[:, None], which=which, chunk_size=9)
