import jax.numpy as jnp
import numpy as np

from memzoo.models.ops.feature_maps import (
    FEATURE_MAPS,
    dpfp,
    dpfp_size,
    elu_plus_one,
    identity,
    num_features,
    relu,
    taylor,
    taylor_full,
)


def _random(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def test_taylor_features_multiply_to_the_second_order_series(x64):
    q, k = _random(0, 3, 5, 7), _random(1, 3, 5, 7)
    assert taylor(q).shape == (3, 5, 1 + 7 + 7 * 8 // 2)
    s = np.sum(np.asarray(q) * np.asarray(k), axis=-1)
    found = np.sum(np.asarray(taylor(q)) * np.asarray(taylor(k)), axis=-1)
    np.testing.assert_allclose(found, 1 + s + s**2 / 2, rtol=1e-12)


def test_both_taylor_maps_have_one_inner_product(x64):
    q, k = _random(0, 3, 16), _random(1, 3, 16)
    assert taylor(q).shape[-1] == 153
    assert taylor_full(q).shape[-1] == 273
    found = np.sum(np.asarray(taylor_full(q)) * np.asarray(taylor_full(k)), axis=-1)
    wanted = np.sum(np.asarray(taylor(q)) * np.asarray(taylor(k)), axis=-1)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_num_features_is_what_the_maps_make():
    for name, feature_map in FEATURE_MAPS.items():
        assert feature_map(jnp.ones((2, 5))).shape == (2, num_features(name, 5))


def test_taylor_of_one_channel_and_of_bfloat16():
    np.testing.assert_allclose(taylor(jnp.asarray([2.0])), [1, 2, 4 / np.sqrt(2)])
    assert taylor(jnp.ones(3, jnp.bfloat16)).dtype == jnp.bfloat16


def test_elementwise_maps():
    x = jnp.asarray([-1.0, 0.0, 2.0])
    np.testing.assert_allclose(elu_plus_one(x), [np.exp(-1), 1, 3], rtol=1e-6)
    np.testing.assert_array_equal(relu(x), [0, 0, 2])
    assert identity(x) is x


def test_the_projection_without_parameters_multiplies_neighbours():
    """Each feature is a product of two of r = [relu(x), relu(-x)], j places apart."""
    x = np.random.default_rng(0).standard_normal(5).astype(np.float32)
    r = np.concatenate([np.maximum(x, 0), np.maximum(-x, 0)])
    wanted = [r[i] * r[(i - j) % 10] for j in (1, 2) for i in range(10)]
    np.testing.assert_allclose(dpfp(jnp.asarray(x), 2), wanted, rtol=1e-6)
    assert dpfp_size(5, 2) == len(wanted)
