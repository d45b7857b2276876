"""Anchors and laws of Oja's rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.oja_rule import OJA_RULE, OjaTokens, gated_oja_rule


@pytest.fixture
def make(make_tokens):
    """Tokens with values of length 1."""

    def make(time, **kinds):
        tokens, memory = make_tokens(
            OjaTokens, (6, 5), time, **({"channels": (5,)} | kinds)
        )
        value = tokens.value / jnp.linalg.norm(tokens.value, axis=-1, keepdims=True)
        return tokens._replace(value=value), memory

    return make


def test_the_reference_equals_a_loop_over_separate_documents(x64, make, make_reset):
    tokens, before = make(9)
    reset = make_reset("inside", 9)
    o, memory = OJA_RULE.recurrent(tokens, before, reset=reset)
    q, k, v, b, log_decay = jax.tree.map(np.asarray, tokens)
    for row, head in np.ndindex(2, 2):
        state = np.asarray(before[row, head])
        for t in range(9):
            at = (row, t, head)
            state = np.zeros_like(state) if reset[row, t] else state
            state = state @ np.diag(np.exp(log_decay[at]))
            written = b[at] * (k[at] - state @ v[at])
            state = state + np.outer(written, v[at])
            np.testing.assert_allclose(o[at], q[at] @ state, rtol=1e-10)
        np.testing.assert_allclose(memory[row, head], state, rtol=1e-10)


def test_a_step_is_a_gradient_step_towards_the_key(x64, make):
    tokens, before = make(1)
    token = jax.tree.map(lambda x: x[:, 0], tokens)
    decayed = before * np.exp(token.log_decay)[..., None, :]

    def loss(memory):
        recalled = jnp.einsum("bhkv,bhv->bhk", memory, token.value)
        return 0.5 * jnp.sum((recalled - token.key) ** 2)

    size = token.write_strength[..., None, None]
    _, memory = OJA_RULE.step(token, before)
    expected = decayed - size * jax.grad(loss)(decayed)
    np.testing.assert_allclose(memory, expected, rtol=1e-12)


def test_the_fast_form_equals_the_reference(x64, make, make_reset, assert_forms):
    tokens, memory = make(19, decay="mixed")
    hit = np.random.default_rng(5).uniform(size=tokens.log_decay.shape)
    decay = jnp.where(hit < 0.1, -jnp.inf, tokens.log_decay)
    decay = jnp.where(hit > 0.9, -80.0, decay)
    tokens = tokens._replace(log_decay=decay)
    assert_forms(OJA_RULE, tokens, memory, make_reset("inside", 19))


def test_one_decay_per_head_is_the_same_decay_in_every_channel(x64, make):
    tokens, memory = make(9, channels=(1,))
    q, k, v, b, log_decay = tokens
    found = gated_oja_rule(
        q, k, v, write_strength=b, log_decay=log_decay, memory=memory, chunk_size=4
    )
    wide = tokens._replace(log_decay=jnp.broadcast_to(log_decay, v.shape))
    for got, wanted in zip(found, OJA_RULE.recurrent(wide, memory), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)


def test_a_decay_by_channel_of_the_key_is_refused(make):
    tokens, memory = make(3, channels=(6,))
    with pytest.raises(ValueError, match=r"axis v is 6 in log_decay .* 5 in value"):
        OJA_RULE.chunkwise(tokens, memory)
