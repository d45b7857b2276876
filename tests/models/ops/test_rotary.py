"""The rotary embedding against complex rotations and its defining property."""

import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.rotary import rotary


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def test_pairs_turn_as_complex_numbers(x64):
    x, position = draw(2, 5, 3, 8), jnp.asarray([[0, 1, 2, 3, 4], [7, 8, 0, 1, 900]])
    given = np.asarray(rotary(x, position, base=100.0))
    pairs = np.asarray(x[..., :4] + 1j * x[..., 4:])
    for i in range(4):
        angle = np.asarray(position) * 100.0 ** (-2 * i / 8)
        turned = pairs[..., i] * np.exp(1j * angle)[:, :, None]
        np.testing.assert_allclose(given[..., i], turned.real, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(
            given[..., i + 4], turned.imag, rtol=1e-9, atol=1e-12
        )


def test_inner_products_depend_on_the_distance_alone(x64):
    q, k = draw(1, 1, 1, 16), draw(1, 1, 1, 16, seed=1)

    def product(query, key):
        query, key = (jnp.asarray([[place]]) for place in (query, key))
        return jnp.sum(rotary(q, query) * rotary(k, key))

    np.testing.assert_allclose(product(9, 4), product(1009, 1004), rtol=1e-9)
    assert abs(product(9, 4) - product(9, 5)) > 1e-3


def test_position_zero_changes_nothing():
    x = draw(2, 3, 1, 4)
    assert np.array_equal(rotary(x, jnp.zeros((2, 3), jnp.int32)), x)


def test_bfloat16_is_rotated_in_float32():
    x = draw(1, 4, 2, 8).astype(jnp.bfloat16)
    # 1001 is no bfloat16: angles of that type would be off by radians.
    position = jnp.asarray([[1, 1001, 4003, 8005]])
    given = rotary(x, position)
    assert given.dtype == jnp.bfloat16
    expected = rotary(x.astype(jnp.float32), position).astype(jnp.bfloat16)
    assert np.array_equal(given, expected)


def test_an_odd_key_size_is_refused():
    with pytest.raises(ValueError, match="key size is 3"):
        rotary(jnp.zeros((1, 1, 1, 3)), jnp.zeros((1, 1), jnp.int32))
