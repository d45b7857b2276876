"""Kernel ridge regression against one solve for every prefix."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.kernel_ridge import (
    Fit,
    append_row,
    extend_fit,
    make_kernel,
    read_fit,
    take_rows,
)
from memzoo.models.ops.mesa import MesaTokens, mesa
from memzoo.models.ops.scalar_decay import SCALAR_DECAY

BATCH, TIME, HEADS, KEY, VALUE = 2, 9, 2, 4, 3
KERNELS = {name: make_kernel(name, 0.5) for name in ("linear", "exponential")}


def _tokens(rng, time=TIME, spread=1.0):
    shape = (BATCH, time, HEADS)
    keys = 1 + spread * rng.standard_normal((2, *shape, KEY))
    q, k = keys / np.linalg.norm(keys, axis=-1, keepdims=True)
    return q, k, rng.standard_normal((*shape, VALUE))


def _empty(slots):
    return Fit(
        jnp.zeros((BATCH, slots, HEADS, KEY)),
        jnp.zeros((BATCH, HEADS, slots, slots)),
        jnp.zeros((BATCH, HEADS, slots, VALUE)),
    )


@partial(jax.jit, static_argnums=0)
def _sequence(kernel, q, k, v, segment, ridge):
    """Predict every token from its document so far, in one call."""
    held = jnp.zeros((BATCH, 0), jnp.int32)
    fit = extend_fit(_empty(0), held, k, v, segment, kernel=kernel, ridge=ridge)
    seen = (segment[:, :, None] == segment[:, None]) & np.tri(q.shape[1], dtype=bool)[
        None
    ]
    return read_fit(fit, seen, q, kernel=kernel)


@partial(jax.jit, static_argnums=0)
def _directly(kernel, q, k, v, segment, ridge):
    """Solve a separate system for every prefix of every document."""
    seen = (segment[:, :, None] == segment[:, None]) & np.tri(TIME, dtype=bool)[None]
    seen = seen[:, None]
    unit = jnp.eye(TIME)[None, None]
    matrix = (kernel(k, k) + ridge[None, :, None, None] * unit)[:, :, None]
    matrix = jnp.where(seen[..., None] & seen[..., None, :], matrix, unit[None])
    right = jnp.where(seen, kernel(q, k), 0)
    weight = jnp.linalg.solve(matrix, right[..., None])[..., 0]
    return jnp.einsum("bhts,bshv->bthv", weight, v)


@pytest.mark.parametrize("name", KERNELS)
def test_every_prefix_is_solved_with_gradients(x64, name):
    rng = np.random.default_rng(0)
    segment = np.array([[0, 0, 0, 1, 1, 2, 2, 2, 2], [0] * 9])
    ridge, weight = (
        np.array([0.1, 1.0]),
        rng.standard_normal((BATCH, TIME, HEADS, VALUE)),
    )
    tokens = _tokens(rng)

    def gradient(run):
        def total(q, k, v, ridge):
            o = run(KERNELS[name], q, k, v, segment, ridge)
            return jnp.sum(o * weight), o

        return jax.jit(jax.grad(total, (0, 1, 2, 3), has_aux=True))(*tokens, ridge)

    for got, want in zip(
        jax.tree.leaves(gradient(_sequence)),
        jax.tree.leaves(gradient(_directly)),
        strict=True,
    ):
        np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-9)


def test_rows_may_be_appended_one_by_one_after_a_sequence(x64):
    """Five tokens in one call and four steps equal nine tokens in one call."""
    rng = np.random.default_rng(1)
    kernel, ridge = KERNELS["exponential"], np.array([0.1, 1.0])
    q, k, v = _tokens(rng)
    zero = np.zeros((BATCH, TIME), np.int32)
    wanted = _sequence(kernel, q, k, v, zero, ridge)
    options = {"kernel": kernel, "ridge": jnp.asarray(ridge)}
    fit = extend_fit(
        _empty(0), jnp.asarray(zero[:, :0]), jnp.asarray(k[:, :5]),
        jnp.asarray(v[:, :5]), jnp.asarray(zero[:, :5]), **options,
    )  # fmt: skip
    slot = jnp.asarray(np.arange(TIME)[None].repeat(BATCH, 0))
    stale = jax.tree.map(lambda a: a + 7, _empty(TIME))
    fit = take_rows(fit, stale, jnp.minimum(slot, 4), slot < 5)
    step = jax.jit(partial(append_row, **options))
    for t in range(5, TIME):
        position = jnp.full((BATCH,), t, jnp.int32)
        o, fit = step(fit, position, *(jnp.asarray(x[:, t]) for x in (q, k, v)))
        np.testing.assert_allclose(o, wanted[:, t], rtol=1e-9)


def test_the_linear_kernel_is_least_squares_without_decay(x64):
    """k (K^T K + r)^-1 K^T = (K K^T + r)^-1 K for keys as columns."""
    q, k, v = (jnp.asarray(x) for x in _tokens(np.random.default_rng(2)))
    ridge = np.array([0.1, 1.0])
    zero = np.zeros((BATCH, TIME), np.int32)
    found = _sequence(KERNELS["linear"], q, k, v, zero, ridge)
    diagonal = jnp.broadcast_to(ridge[:, None], k.shape)
    tokens = MesaTokens(q, k, v, diagonal, jnp.ones(k.shape[:3]))
    np.testing.assert_allclose(found, mesa()(tokens)[0], rtol=1e-8)


def test_pairs_fewer_than_the_key_size_are_recalled(x64):
    """Linear attention mixes the values of correlated keys."""
    _, k, v = _tokens(np.random.default_rng(3), time=3, spread=0.5)
    ridge = np.full(HEADS, 1e-9)
    for kernel in KERNELS.values():
        fit = extend_fit(
            _empty(0), jnp.zeros((BATCH, 0), jnp.int32), jnp.asarray(k),
            jnp.asarray(v), jnp.zeros((BATCH, 3), jnp.int32),
            kernel=kernel, ridge=jnp.asarray(ridge),
        )  # fmt: skip
        seen = jnp.ones((BATCH, 3, 3), bool)
        o = read_fit(fit, seen, jnp.asarray(k), kernel=kernel)
        np.testing.assert_allclose(o, v, atol=1e-5)
    _, memory = SCALAR_DECAY((k, k, v))
    linear = np.einsum("bthk,bhkv->bthv", k, memory)
    assert np.mean(np.abs(linear - v)) > 0.3
