import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.chunk_decay import chunk_decay, scale


@pytest.mark.parametrize("decays", [True, False])
@pytest.mark.parametrize("resets", [True, False])
def test_decays_equal_products_of_the_steps_between(x64, decays, resets):
    rng = np.random.default_rng(0)
    log_decay = -rng.uniform(size=(1, 2, 6)) * decays
    start = np.asarray([[False, True, False, False, True, False]]) & resets
    found = chunk_decay(
        jnp.asarray(log_decay) if decays else None,
        jnp.cumsum(jnp.asarray(start), axis=1, dtype=jnp.int32) if resets else None,
        chunk_size=6,
        dtype=jnp.float64,
    )
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
    def total(log_decay):
        decay = chunk_decay(log_decay, None, chunk_size=32, dtype=jnp.float32)
        return sum(jnp.sum(x) for x in decay)

    gradient = jax.grad(total)(jnp.full((1, 1, 32), -20.0))
    assert jnp.all(jnp.isfinite(gradient))


def test_scale_without_a_factor_is_the_identity():
    x = jnp.ones((2, 3))
    assert scale(x, None) is x
    np.testing.assert_array_equal(scale(x, jnp.asarray([1.0, 2.0]))[1], [2, 2, 2])
