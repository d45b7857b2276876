"""Local linear attention against weighted ridge regressions in numpy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.attention import attention
from memzoo.models.ops.local_linear import local_linear_attention

BATCH, TIME, HEADS, KEY, VALUE = 2, 11, 2, 3, 2
RIDGE = np.array([0.1, 0.7])


def _tokens(seed=0, length=None):
    rng = np.random.default_rng(seed)
    shape = (BATCH, TIME, HEADS)
    q, k = rng.standard_normal((2, *shape, KEY))
    if length is not None:
        q, k = (length * x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k))
    return tuple(jnp.asarray(x) for x in (q, k, rng.standard_normal((*shape, VALUE))))


def _line(q, k, v, ridge):
    """Fit v = a + B (k - q) with softmax weights and a ridge on B; return a."""
    logits = k @ q / np.sqrt(len(q))
    weight = np.exp(logits - np.max(logits))
    weight /= np.sum(weight)
    design = np.concatenate([np.ones((len(k), 1)), k - q], axis=1)
    penalty = np.diag([0.0] + [ridge] * len(q))
    left = (design * weight[:, None]).T
    return np.linalg.solve(left @ design + penalty, left @ v)[0]


PLACES = {
    "position": np.array([[0, 1, 2, 3, 0, 1, 2, 0, 1, 2, 3], list(range(11))]),
    "segment": np.array([[0] * 4 + [1] * 3 + [2] * 4, [0] * 11]),
}
WHERE = {
    f"{side}_{name}": jnp.asarray(x, jnp.int32)
    for side in ("query", "key")
    for name, x in PLACES.items()
}


@pytest.mark.parametrize("where", [{}, WHERE], ids=["one document", "packed"])
def test_every_output_is_the_intercept_of_a_weighted_ridge_fit(x64, where):
    q, k, v = _tokens()
    run = jax.jit(partial(local_linear_attention, block_size=4))
    o = run(q, k, v, ridge=RIDGE, **where)
    q, k, v = (np.asarray(x) for x in (q, k, v))
    for row in range(BATCH):
        segment = PLACES["segment"][row] if where else np.zeros(TIME)
        for t in range(TIME):
            past = np.flatnonzero(segment[: t + 1] == segment[t])
            for h in range(HEADS):
                at = (row, past, h)
                wanted = _line(q[row, t, h], k[at], v[at], RIDGE[h])
                np.testing.assert_allclose(o[row, t, h], wanted, rtol=1e-8)


@jax.jit
def _directly(q, k, v, ridge):
    """Form every covariance and solve; `jax.grad` differentiates the solve."""
    logits = jnp.einsum("bthk,bshk->bhts", q, k) / np.sqrt(KEY)
    seen = np.tri(TIME, dtype=bool)[None, None]
    p = jax.nn.softmax(jnp.where(seen, logits, -jnp.inf), axis=-1)
    mean = jnp.einsum("bhts,bshk->bhtk", p, k)
    apart = jnp.moveaxis(k, 1, 2)[:, :, None] - mean[:, :, :, None]
    covariance = jnp.einsum("bhts,bhtsk,bhtsl->bhtkl", p, apart, apart)
    unit = jnp.eye(KEY)[None, None, None]
    system = covariance + ridge[None, :, None, None, None] * unit
    gap = jnp.moveaxis(q, 1, 2) - mean
    slope = jnp.linalg.solve(system, gap[..., None])[..., 0]
    weight = p * (1 + jnp.einsum("bhtk,bhtsk->bhts", slope, apart))
    return jnp.einsum("bhts,bshv->bthv", weight, v), slope


def test_gradients_are_those_of_a_direct_solve(x64):
    tokens = _tokens(1)
    weight = np.random.default_rng(2).standard_normal((BATCH, TIME, HEADS, VALUE))

    def gradient(run):
        def total(q, k, v, ridge):
            return jnp.sum(weight * run(q, k, v, ridge))

        return jax.jit(jax.grad(total, (0, 1, 2, 3)))(*tokens, jnp.asarray(RIDGE))

    found = gradient(
        lambda q, k, v, ridge: local_linear_attention(
            q, k, v, ridge=ridge, block_size=4
        )
    )
    wanted = gradient(lambda *given: _directly(*given)[0])
    for got, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-9)


def test_given_slopes_are_the_first_order_form_of_parallax(x64):
    """o = O1 (1 + sum p c) - sum p c v with c = r . k and r = -slope."""
    q, k, v = _tokens(3)
    exact, slope = _directly(q, k, v, RIDGE)
    slope = jnp.moveaxis(slope, 1, 2)
    run = jax.jit(lambda *given: local_linear_attention(*given[:3], slope=given[3]))
    found = run(q, k, v, slope)
    np.testing.assert_allclose(found, exact, rtol=1e-9)
    logits = np.einsum("bthk,bshk->bhts", q, k) / np.sqrt(KEY)
    p = np.exp(np.where(np.tri(TIME, dtype=bool), logits, -np.inf))
    p /= np.sum(p, axis=-1, keepdims=True)
    c = np.einsum("bthk,bshk->bhts", -slope, k)
    first = np.einsum("bhts,bshv->bthv", p, v)
    factor = 1 + np.moveaxis(np.sum(p * c, axis=-1), 1, 2)[..., None]
    wanted = first * factor - np.einsum("bhts,bshv->bthv", p * c, v)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_a_large_ridge_tends_to_softmax_attention(x64):
    q, k, v = _tokens(4)
    softmax = attention(q, k, v)
    errors = [
        np.max(np.abs(local_linear_attention(q, k, v, ridge=jnp.full(2, r)) - softmax))
        for r in (1e2, 1e4)
    ]
    assert errors[0] < 0.2 and errors[1] < errors[0] / 50


def test_softmax_attention_is_the_local_constant_of_normalised_keys(x64):
    """Fit one number with the Gaussian weights exp(-|k - q|^2 / (2 h))."""
    h = 0.3
    q, k, v = _tokens(5, length=1.0)
    o = attention(q, k, v, scale=1 / h)
    q, k, v = (np.asarray(x) for x in (q, k, v))
    for t in range(TIME):
        apart = np.sum((k[0, : t + 1, 1] - q[0, t, 1]) ** 2, axis=-1)
        weight = np.exp(-apart / (2 * h))
        # The normal equation of sum_s w_s |v_s - a|^2.
        constant = weight @ v[0, : t + 1, 1] / np.sum(weight)
        np.testing.assert_allclose(o[0, t, 1], constant, rtol=1e-10)


def test_groups_share_keys_and_hidden_keys_are_not_seen(x64):
    q, k, v = _tokens(6)
    one_group = (k[:, :, :1], v[:, :, :1])
    repeated = (jnp.repeat(x, 2, axis=2) for x in one_group)
    wanted = local_linear_attention(q, *repeated, ridge=jnp.asarray(RIDGE))
    found = local_linear_attention(q, *one_group, ridge=jnp.asarray(RIDGE))
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    hidden = WHERE | {"key_segment": jnp.full((BATCH, TIME), -1, jnp.int32)}
    nothing = local_linear_attention(q, k, v, ridge=jnp.asarray(RIDGE), **hidden)
    np.testing.assert_array_equal(nothing, np.zeros_like(v))


def test_a_ridge_or_slopes_are_needed():
    q, k, v = _tokens()
    for options in ({}, {"ridge": jnp.asarray(RIDGE), "slope": q}):
        with pytest.raises(ValueError, match="give either a ridge, to solve for slope"):
            local_linear_attention(q, k, v, **options)


@pytest.mark.slow
def test_memory_grows_linearly_with_the_length():
    def temporaries(time):
        x = jax.ShapeDtypeStruct((1, time, 1, 4), jnp.float32)
        ridge = jax.ShapeDtypeStruct((1,), jnp.float32)

        def total(q, k, v, ridge):
            return jnp.sum(local_linear_attention(q, k, v, ridge=ridge) ** 2)

        compiled = jax.jit(jax.grad(total)).lower(x, x, x, ridge).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporaries(1024) < 2.1 * temporaries(512)
