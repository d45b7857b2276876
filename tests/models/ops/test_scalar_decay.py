"""Anchors of scalar decay; its laws are in test_recurrence.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.scalar_decay import (
    SCALAR_DECAY,
    ScalarDecayTokens,
    linear_attention,
)

FORMS = ("scan", "parallel")


@pytest.fixture
def make(make_tokens):
    def make(time, **kinds):
        return make_tokens(ScalarDecayTokens, (6, 5), time, **kinds)

    return make


@pytest.mark.parametrize("form", FORMS)
def test_no_decay_is_masked_quadratic_attention(x64, make, form):
    tokens, memory = make(37, decay="none")
    o, memory = SCALAR_DECAY.chunkwise(
        tokens, jnp.zeros_like(memory), chunk_size=16, form=form
    )
    q, k, v, _ = tokens
    scores = np.tril(np.einsum("bthk,bshk->bhts", q, k))
    expected = np.einsum("bhts,bshv->bthv", scores, v)
    np.testing.assert_allclose(o, expected, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(memory, np.einsum("bshk,bshv->bhkv", k, v), rtol=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_a_column_of_ones_carries_the_normaliser(x64, make, form):
    q, k, v, _ = make(37, decay="none")[0]
    q, k = jnp.exp(q), jnp.exp(k)
    v = jnp.concatenate([v, jnp.ones_like(v[..., :2])], axis=-1)
    tokens, memory = ScalarDecayTokens(q, k, v), jnp.zeros((2, 2, 6, 7))
    o, _ = SCALAR_DECAY.chunkwise(tokens, memory, chunk_size=16, form=form)
    scores = np.tril(np.einsum("bthk,bshk->bhts", q, k))
    total = np.moveaxis(np.sum(scores, axis=-1), 1, 2)
    np.testing.assert_allclose(o[..., -1], total, rtol=1e-9)


def test_constant_decay_has_its_closed_form(x64, make):
    tokens, memory = make(9)
    rate = np.log([0.9, 0.5])
    tokens = tokens._replace(log_decay=jnp.broadcast_to(jnp.asarray(rate), (2, 9, 2)))
    o, _ = SCALAR_DECAY.chunkwise(tokens, memory, chunk_size=4)
    q, k, v, _ = jax.tree.map(np.asarray, tokens)
    for t in range(9):
        left = np.exp(rate * (t + 1))[None, :, None, None] * np.asarray(memory)
        for s in range(t + 1):
            write = np.einsum("bhk,bhv->bhkv", k[:, s], v[:, s])
            left = left + np.exp(rate * (t - s))[None, :, None, None] * write
        expected = np.einsum("bhk,bhkv->bhv", q[:, t], left)
        np.testing.assert_allclose(o[:, t], expected, rtol=1e-9)


def test_the_reference_equals_a_loop(x64, make, make_reset):
    tokens, before = make(9)
    reset = make_reset("inside", 9)
    o, memory = SCALAR_DECAY.recurrent(tokens, before, reset=reset)
    q, k, v, log_decay = jax.tree.map(np.asarray, tokens)
    for row, head in np.ndindex(2, 2):
        state = np.asarray(before[row, head])
        for t in range(9):
            at = (row, t, head)
            state = np.zeros_like(state) if reset[row, t] else state
            state = state * np.exp(log_decay[at]) + np.outer(k[at], v[at])
            np.testing.assert_allclose(o[at], q[at] @ state, rtol=1e-10)
        np.testing.assert_allclose(memory[row, head], state, rtol=1e-10)


@pytest.mark.parametrize("decay", ["none", "mild", "strong", "mixed", "zero"])
def test_the_gradient_of_a_write_alone_is_that_of_the_reference(x64, make, decay):
    tokens, memory = make(37, decay=decay)
    rng = np.random.default_rng(1)
    cotangent = jnp.asarray(rng.standard_normal(memory.shape))

    @jax.jit
    def both(tokens, memory):
        found = []
        for run in (lambda *x: SCALAR_DECAY.recurrent(*x)[1], SCALAR_DECAY.write):
            after, pull = jax.vjp(run, tokens, memory)
            found.append((after, pull(cotangent)))
        return found

    expected, found = both(tokens, memory)
    for wanted, got in zip(*map(jax.tree.leaves, (expected, found)), strict=True):
        size = np.max(np.abs(wanted), initial=1e-3)
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9 * size)


def test_a_write_alone_sums_in_the_type_of_the_memory(make):
    tokens, memory = make(3)
    narrow = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), tokens)
    narrow = narrow._replace(log_decay=jnp.float32(tokens.log_decay))
    memory = jnp.float32(memory)
    after = SCALAR_DECAY.write(narrow, memory)
    assert after.dtype == jnp.float32
    wide = SCALAR_DECAY.write(jax.tree.map(jnp.float32, narrow), memory)
    np.testing.assert_allclose(after, wide, rtol=0.02, atol=0.02)
    nothing = narrow._replace(
        key=0 * narrow.key, value=0 * narrow.value, log_decay=0 * narrow.log_decay
    )
    np.testing.assert_array_equal(SCALAR_DECAY.write(nothing, memory), memory)


def test_the_function_is_the_recurrence_from_an_empty_memory(x64, make, make_reset):
    tokens, before = make(9)
    reset = make_reset("inside", 9)
    q, k, v, decay = map(np.asarray, tokens)
    run = jax.jit(
        lambda q, k, v, g, m: linear_attention(
            q, k, v, log_decay=g, memory=m, reset=reset, chunk_size=4
        )
    )
    for decays, memory in ((decay, before), (None, None)):
        wanted = SCALAR_DECAY.recurrent(
            tokens._replace(log_decay=decays),
            jnp.zeros_like(before) if memory is None else memory,
            reset=reset,
        )
        for a, b in zip(run(q, k, v, decays, memory), wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
