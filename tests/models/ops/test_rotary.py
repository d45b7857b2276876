"""The rotary embedding against complex rotations and its defining property."""

import decimal

import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.rotary import RotaryScaling, rotary


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
    # bfloat16 cannot hold 1001: angles in it would be wrong by radians.
    position = jnp.asarray([[1, 1001, 4003, 8005]])
    given = rotary(x, position)
    assert given.dtype == jnp.bfloat16
    expected = rotary(x.astype(jnp.float32), position).astype(jnp.bfloat16)
    assert np.array_equal(given, expected)


def test_an_odd_key_size_is_refused():
    with pytest.raises(ValueError, match="key size is 3"):
        rotary(jnp.zeros((1, 1, 1, 3)), jnp.zeros((1, 1), jnp.int32))


# Typical positions, and the largest that an int32 can hold.
PLACES = [0, 1, 1000, 10**6, 10**7 + 1, 10**8 + 7, 10**9 - 1, 2**31 - 1]


def exact(position, size, base):
    """Return cosine and sine of every angle, from rational numbers of 60 digits."""
    with decimal.localcontext(decimal.Context(prec=60)):
        turn = 2 * decimal.Decimal(
            "3.14159265358979323846264338327950288419716939937510582097494"
        )
        angles = []
        for i in range(size // 2):
            exponent = decimal.Decimal(-2 * i) / size
            angle = position * decimal.Decimal(base) ** exponent
            angles.append(float(angle % turn))
    return np.cos(angles), np.sin(angles)


@pytest.mark.parametrize("size, base", [(16, 10000.0), (64, 1.5), (8, 1e30)])
def test_angles_are_exact_at_every_place(size, base):
    ones = jnp.ones((1, len(PLACES), 1, size // 2))
    x = jnp.concatenate([ones, 0 * ones], axis=-1)
    given = np.asarray(rotary(x, jnp.asarray([PLACES]), base=base), np.float64)
    for row, place in zip(given[0, :, 0], PLACES, strict=True):
        wanted = np.concatenate(exact(place, size, base))
        np.testing.assert_allclose(row, wanted, rtol=0, atol=3.5e-7, err_msg=str(place))


def test_angles_in_float64_are_exact_at_every_place(x64):
    x = jnp.ones((1, len(PLACES), 1, 16)).at[..., 8:].set(0)
    given = np.asarray(rotary(x, jnp.asarray([PLACES])))
    for row, place in zip(given[0, :, 0], PLACES, strict=True):
        wanted = np.concatenate(exact(place, 16, 10000.0))
        np.testing.assert_allclose(row, wanted, rtol=0, atol=7e-16, err_msg=str(place))


def test_places_before_the_first_turn_back():
    x = draw(1, 2, 1, 8).astype(jnp.float32)
    back = rotary(rotary(x, jnp.asarray([[10**8, 3]])), jnp.asarray([[-(10**8), -3]]))
    np.testing.assert_allclose(back, x, atol=1e-6)


def test_scores_depend_on_the_distance_alone_at_every_place():
    q, k = (draw(1, 1, 1, 32, seed=s).astype(jnp.float32) for s in (0, 1))

    def score(place):
        query, key = (jnp.asarray([[each]]) for each in (place, place - 5))
        return float(jnp.sum(rotary(q, query) * rotary(k, key)))

    wanted = score(5)
    for place in (6, 10**6, 10**7, 10**8, 10**9, 2**31 - 1):
        assert abs(score(place) - wanted) < 3e-6, place


def test_the_channels_after_the_rotated_ones_stay():
    x, position = draw(1, 3, 2, 8), jnp.asarray([[3, 4, 50]])
    given = rotary(x, position, rotated=6)
    np.testing.assert_array_equal(given[..., 6:], x[..., 6:])
    np.testing.assert_array_equal(given[..., :6], rotary(x[..., :6], position))


def _angles(size, place, base, scaling):
    x = jnp.ones((1, 1, 1, size)).at[..., size // 2 :].set(0)
    turned = rotary(x, jnp.asarray([[place]]), base=base, scaling=scaling)[0, 0, 0]
    return np.arctan2(turned[size // 2 :], turned[: size // 2])


def test_positions_are_interpolated(x64):
    """Every position is divided by `factor` (arXiv 2306.15595)."""
    given = _angles(8, 12, 100.0, RotaryScaling(4.0))
    np.testing.assert_allclose(given, _angles(8, 3, 100.0, None), rtol=1e-12)


def test_slow_rotations_alone_are_slowed_as_in_llama(x64):
    """Compute the published function, which divides by wavelengths (three cases)."""
    size, base, factor, length, low, high = 32, 100.0, 8.0, 64, 1.0, 4.0
    plain = base ** (-np.arange(0, size, 2) / size)
    wanted, cases = [], set()
    for frequency in plain:
        wavelength = 2 * np.pi / frequency
        if wavelength < length / high:
            cases.add("fast")
            wanted.append(frequency)
        elif wavelength > length / low:
            cases.add("slow")
            wanted.append(frequency / factor)
        else:
            cases.add("between")
            smooth = (length / wavelength - low) / (high - low)
            wanted.append((1 - smooth) * frequency / factor + smooth * frequency)
    assert len(cases) == 3
    given = _angles(size, 1, base, RotaryScaling(factor, length, low, high))
    np.testing.assert_allclose(given, wanted, rtol=1e-10)
