"""Anchors of the delta rule with two keys; its laws are in test_recurrence.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.delta_rule import DELTA_RULE, DeltaTokens
from memzoo.models.ops.erase_write import ERASE_WRITE, EraseWriteTokens


@pytest.fixture
def make(make_tokens):
    return lambda time, **kinds: make_tokens(
        EraseWriteTokens, (6, 5), time, channels=(6,), **kinds
    )


def test_the_reference_equals_a_loop_over_separate_documents(x64, make, make_reset):
    tokens, before = make(9)
    reset = make_reset("inside", 9)
    o, memory = ERASE_WRITE.recurrent(tokens, before, reset=reset)
    q, k, v, e, log_decay = jax.tree.map(np.asarray, tokens)
    for row, head in np.ndindex(2, 2):
        state = np.asarray(before[row, head])
        for t in range(9):
            at = (row, t, head)
            state = np.zeros_like(state) if reset[row, t] else state
            erased = np.eye(6) - np.outer(k[at], e[at])
            state = erased @ np.diag(np.exp(log_decay[at])) @ state
            state = state + np.outer(k[at], v[at])
            np.testing.assert_allclose(o[at], q[at] @ state, rtol=1e-10)
        np.testing.assert_allclose(memory[row, head], state, rtol=1e-10)


def test_a_step_is_a_gradient_step_on_the_recall_loss(x64, make):
    """With e = b k and v = b x: a step of size b on 1/2 |S^T k - x|^2."""
    tokens, before = make(1)
    token = jax.tree.map(lambda x: x[:, 0], tokens)
    strength = 0.7
    token = token._replace(erase=strength * token.key)
    decayed = before * np.exp(token.log_decay)[..., None]

    def loss(memory):
        recalled = jnp.einsum("bhkv,bhk->bhv", memory, token.key)
        return 0.5 * jnp.sum((recalled - token.value) ** 2)

    expected = decayed - strength * jax.grad(loss)(decayed)
    written = token._replace(value=strength * token.value)
    _, memory = ERASE_WRITE.step(written, before)
    np.testing.assert_allclose(memory, expected, rtol=1e-12)


@pytest.mark.parametrize("channels", [1, 6])
def test_one_key_and_one_decay_are_the_delta_rule(x64, make, channels):
    tokens, memory = make(37)
    log_decay = tokens.log_decay[..., :1]
    strength = jnp.linalg.norm(tokens.erase, axis=-1)
    q, k, v = tokens[:3]
    plain = DeltaTokens(q, k, v, strength, log_decay[..., 0])
    decays = jnp.broadcast_to(log_decay, (*log_decay.shape[:-1], channels))
    two = EraseWriteTokens(
        q, k, strength[..., None] * v, strength[..., None] * k, decays
    )
    found = ERASE_WRITE.chunkwise(two, memory, chunk_size=32)
    for got, wanted in zip(found, DELTA_RULE.recurrent(plain, memory), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)


def test_a_decay_of_another_number_of_channels_is_refused(make):
    tokens, memory = make(3)
    tokens = tokens._replace(log_decay=tokens.log_decay[..., :4])
    said = r"axis k is 4 in log_decay \(2, 3, 2, 4\) and 6 in query; log_decay has the"
    with pytest.raises(ValueError, match=said):
        ERASE_WRITE.chunkwise(tokens, memory)
