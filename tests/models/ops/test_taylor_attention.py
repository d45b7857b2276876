"""Anchors of Taylor attention; its laws are in test_recurrence.py."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.feature_maps import taylor, taylor_size
from memzoo.models.ops.taylor_attention import TAYLOR_ATTENTION, TaylorTokens


@pytest.fixture
def make(make_tokens):
    return lambda time: make_tokens(TaylorTokens, (taylor_size(6), 5), time)


def test_it_is_quadratic_attention_by_the_kernel(x64, make):
    """Compare with 1 + s + s^2 / 2, without a feature map."""
    (q, k, v), memory = make(37)
    o, _ = TAYLOR_ATTENTION.chunkwise(
        TaylorTokens(q, k, v), jnp.zeros_like(memory), chunk_size=16, form="scan"
    )
    s = np.einsum("bthk,bshk->bhts", q, k)
    expected = np.einsum("bhts,bshv->bthv", np.tril(1 + s + s**2 / 2), v)
    np.testing.assert_allclose(o, expected, rtol=1e-9, atol=1e-9)


def test_a_token_without_a_value_changes_nothing(x64, make):
    tokens, memory = make(20)
    hidden = jnp.arange(20)[None, :, None, None] >= 13
    tokens = tokens._replace(value=jnp.where(hidden, 0, tokens.value))
    short = jax.tree.map(lambda x: x[:, :13], tokens)
    run = partial(TAYLOR_ATTENTION.chunkwise, chunk_size=8, form="scan")
    (o, after), (wanted, last) = run(tokens, memory), run(short, memory)
    np.testing.assert_allclose(o[:, :13], wanted, rtol=1e-12)
    np.testing.assert_allclose(after, last, rtol=1e-12)


def test_a_step_adds_the_features_of_the_key(x64, make):
    tokens, memory = make(1)
    token = jax.tree.map(lambda x: x[:, 0], tokens)
    _, after = TAYLOR_ATTENTION.step(token, memory)
    write = jnp.einsum("bhf,bhv->bhfv", taylor(token.key), token.value)
    np.testing.assert_allclose(after, memory + write, rtol=1e-12)


def test_long_writes_are_summed_chunk_by_chunk(x64, make):
    tokens, memory = make(150)
    wanted = TAYLOR_ATTENTION.recurrent(tokens, memory)[1]
    found = TAYLOR_ATTENTION.write(tokens, memory)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_the_memory_must_be_given():
    """The axis of features is not an axis of the tokens."""
    tokens = TaylorTokens(*(jnp.ones((1, 3, 2, 4)) for _ in range(3)))
    said = "axis f is not an axis of the tokens; give a memory with the axes `b h f v`"
    with pytest.raises(ValueError, match=said):
        TAYLOR_ATTENTION.recurrent(tokens)
