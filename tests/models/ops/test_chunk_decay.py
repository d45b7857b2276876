from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.chunk_decay import (
    chunk_decay,
    keep,
    log_decay_cotangent,
    row_sum,
    scale,
    segment_sums,
)


@pytest.mark.parametrize("decays", [True, False])
@pytest.mark.parametrize("resets", [True, False])
def test_decays_equal_products_of_the_steps_between(x64, decays, resets):
    rng = np.random.default_rng(0)
    log_decay = -rng.uniform(size=(1, 2, 6)) * decays
    start = np.asarray([[False, True, False, False, True, False]]) & resets
    segment = np.cumsum(start, axis=1, dtype=np.int32) if resets else None
    run = partial(chunk_decay, shape=(1, 2, 6), dtype=jnp.float64)
    found = jax.jit(run)(log_decay if decays else None, segment)
    expected = _by_hand(log_decay, start)
    for name, wanted in expected.items():
        factor = getattr(found, name)
        factor = np.ones(()) if factor is None else np.asarray(factor)
        np.testing.assert_allclose(
            np.broadcast_to(factor, wanted.shape), wanted, rtol=1e-12, err_msg=name
        )


def _by_hand(log_decay, start):
    step = np.where(start[:, None, :], 0.0, np.exp(log_decay))
    carried = np.cumprod(step, axis=-1)
    size = step.shape[-1]
    within = np.zeros((*step.shape, size))
    for i in range(size):
        for j in range(i + 1):
            within[..., i, j] = np.prod(step[..., j + 1 : i + 1], axis=-1)
    return {
        "within": within,
        "carried": carried,
        "remaining": within[..., -1, :],
        "kept": carried[..., -1],
    }


@pytest.mark.parametrize("strong", [-80.0, -800.0, -1e4, -1e30, -np.inf])
def test_a_strong_decay_costs_the_decays_after_it_no_digits(strong):
    rng = np.random.default_rng(0)
    log_decay = -rng.uniform(size=(1, 2, 32)).astype(np.float32)
    log_decay[..., [3, 4, 11, 20]] = strong
    run = jax.jit(partial(chunk_decay, shape=log_decay.shape, dtype=jnp.float32))
    found = run(log_decay, None)
    expected = _by_hand(np.float64(log_decay), np.zeros((1, 32), bool))
    for name, wanted in expected.items():
        # exp turns the error of a sum of up to 16 into a relative error of about 2e-6.
        np.testing.assert_allclose(
            getattr(found, name), wanted, rtol=2e-6, atol=1e-30, err_msg=name
        )


def test_each_sum_adds_its_own_segment_alone():
    x = np.float32([1e8, 0.1, 0.2, 1e8, 0.3])
    found, pull = jax.vjp(jax.jit(segment_sums), x)
    for i, j in np.ndindex(5, 5):
        wanted = np.sum(np.float64(x[j + 1 : i + 1]))
        np.testing.assert_allclose(found[i, j], wanted, rtol=2e-7)
    # x[2] enters only the sums from a token before it to itself or later.
    cotangent = np.full((5, 5), 1e8, np.float32)
    cotangent[2:, :2] = 0.1
    np.testing.assert_allclose(pull(cotangent)[0][2], 0.6, rtol=1e-6)


def test_gradients_stay_finite_and_right_under_strong_decay():
    log_decay = np.tile(np.float32([-20, -np.inf, -0.5, -0.25]), 8)[None, None]

    def total(log_decay):
        decay = chunk_decay(log_decay, None, shape=(1, 1, 32), dtype=jnp.float32)
        return jnp.sum(decay.within)

    gradient = jax.jit(jax.grad(total))(log_decay)[0, 0]
    # Decays from tokens 1 and 2 to tokens 2 and 3, and the remainder after -20.
    close = [np.exp(-0.5) + np.exp(-0.75), np.exp(-0.75) + np.exp(-0.25)]
    np.testing.assert_allclose(gradient[2::4], [close[0]] * 8, rtol=1e-6)
    np.testing.assert_allclose(gradient[3::4], [close[1]] * 8, rtol=1e-6)
    np.testing.assert_array_equal(gradient[1::4], np.zeros(8))
    # A difference of larger sums would be wrong by 1e-7 here.
    left = np.exp(-20) * (1 + np.exp(-0.25) + np.exp(-0.75))
    np.testing.assert_allclose(gradient[4::4], [left] * 7, rtol=1e-5)


def test_cotangent_of_the_log_decay_equals_autodiff(x64):
    rng = np.random.default_rng(0)
    log_decay = -rng.uniform(size=(1, 2, 5))
    shapes = [(1, 2, 5, 5), (1, 2, 5), (1, 2, 5), (1, 2)]
    weights = [jnp.asarray(rng.standard_normal(shape)) for shape in shapes]

    def decays(log_decay):
        return chunk_decay(log_decay, None, shape=(1, 2, 5), dtype=jnp.float64)

    def total(log_decay):
        parts = zip(decays(log_decay), weights, strict=True)
        return sum(jnp.sum(factor * weight) for factor, weight in parts)

    @jax.jit
    def both(log_decay):
        parts = [
            factor * weight
            for factor, weight in zip(decays(log_decay), weights, strict=True)
        ]
        return log_decay_cotangent(*parts), jax.grad(total)(log_decay)

    np.testing.assert_allclose(*both(log_decay), rtol=1e-10)


def test_the_cotangent_of_a_strong_decay_is_no_difference_of_larger_ones():
    pairs = np.ones((1, 1, 4, 4), np.float32)
    pairs[..., 2:, :2] = 1e-9
    zero = np.zeros((1, 1, 4), np.float32)
    found = jax.jit(log_decay_cotangent)(pairs, zero, zero, zero[..., 0])
    np.testing.assert_allclose(found[0, 0], [0, 1 + 2e-9, 4e-9, 1 + 2e-9], rtol=1e-6)


def test_row_sums_are_sums():
    np.testing.assert_array_equal(row_sum(jnp.arange(6.0).reshape(2, 3)), [3, 12])


def test_scale_and_keep_without_a_factor_are_the_identity():
    x = jnp.ones((2, 3))
    assert scale(x, None) is x
    np.testing.assert_array_equal(scale(x, jnp.asarray([1.0, 2.0]))[1], [2, 2, 2])
    decay = chunk_decay(None, None, shape=(1, 2, 3), dtype=jnp.float32)
    memory = jnp.ones((1, 2, 4, 5))
    assert keep(memory, decay) is memory
