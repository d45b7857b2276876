from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.chunk_decay import (
    chunk_decay,
    column_sum,
    keep,
    row_sum,
    running_cotangent,
    running_log_decay,
    scale,
)


@pytest.mark.parametrize("decays", [True, False])
@pytest.mark.parametrize("resets", [True, False])
def test_decays_equal_products_of_the_steps_between(x64, decays, resets):
    rng = np.random.default_rng(0)
    log_decay = -rng.uniform(size=(1, 2, 6)) * decays
    start = np.asarray([[False, True, False, False, True, False]]) & resets
    running = np.cumsum(log_decay, axis=-1) if decays else None
    segment = np.cumsum(start, axis=1, dtype=np.int32) if resets else None
    run = partial(chunk_decay, shape=(1, 2, 6), dtype=jnp.float64)
    found = jax.jit(run)(running, segment)
    step = np.where(start[:, None, :], 0.0, np.exp(log_decay))
    carried = np.cumprod(step, axis=-1)
    within = np.zeros((1, 2, 6, 6))
    for i in range(6):
        for j in range(i + 1):
            within[..., i, j] = np.prod(step[..., j + 1 : i + 1], axis=-1)
    expected = {
        "within": within,
        "carried": carried,
        "remaining": within[..., -1, :],
        "kept": carried[..., -1],
    }
    for name, wanted in expected.items():
        factor = getattr(found, name)
        factor = np.ones(()) if factor is None else np.asarray(factor)
        np.testing.assert_allclose(
            np.broadcast_to(factor, wanted.shape), wanted, rtol=1e-12, err_msg=name
        )


def test_gradients_stay_finite_under_strong_decay():
    def total(running):
        decay = chunk_decay(running, None, shape=running.shape, dtype=jnp.float32)
        return sum(jnp.sum(x) for x in decay)

    gradient = jax.jit(jax.grad(total))(-20 * jnp.arange(1.0, 33)[None, None])
    assert jnp.all(jnp.isfinite(gradient))


def test_running_decay_starts_anew_in_every_chunk():
    running = running_log_decay(-jnp.ones((2, 1, 3, 1)), jnp.float32)
    np.testing.assert_array_equal(running[:, 0, :, 0], [[-1, -2, -3]] * 2)
    assert running_log_decay(None, jnp.float32) is None


def test_cotangent_of_the_running_decay_equals_autodiff(x64):
    rng = np.random.default_rng(0)
    running = jnp.asarray(np.cumsum(-rng.uniform(size=(1, 2, 5)), axis=-1))
    shapes = [(1, 2, 5, 5), (1, 2, 5), (1, 2, 5), (1, 2)]
    weights = [jnp.asarray(rng.standard_normal(shape)) for shape in shapes]

    def decays(running):
        return chunk_decay(running, None, shape=(1, 2, 5), dtype=jnp.float64)

    def total(running):
        parts = zip(decays(running), weights, strict=True)
        return sum(jnp.sum(factor * weight) for factor, weight in parts)

    @jax.jit
    def both(running):
        pairs, carried, remained, kept = (
            factor * weight
            for factor, weight in zip(decays(running), weights, strict=True)
        )
        found = running_cotangent(
            row_sum(pairs) + carried,
            column_sum(pairs, jnp.ones((1, 2, 5))),
            remained,
            kept,
        )
        return found, jax.grad(total)(running)

    np.testing.assert_allclose(*both(running), rtol=1e-10)


def test_scale_and_keep_without_a_factor_are_the_identity():
    x = jnp.ones((2, 3))
    assert scale(x, None) is x
    np.testing.assert_array_equal(scale(x, jnp.asarray([1.0, 2.0]))[1], [2, 2, 2])
    decay = chunk_decay(None, None, shape=(1, 2, 3), dtype=jnp.float32)
    memory = jnp.ones((1, 2, 4, 5))
    assert keep(memory, decay) is memory
