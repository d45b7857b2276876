"""Building blocks of layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.interface import Layout
from memzoo.models.projection import (
    RMSNorm,
    ShortConvolution,
    merge_heads,
    output_gain,
    projection,
    split_heads,
)


@pytest.mark.parametrize("gain", [1.0, 0.25])
def test_projections_keep_the_variance_times_their_gain(gain):
    linear = projection(256, 512, nnx.Rngs(0), gain=gain)
    kernel = linear.kernel[...]
    assert kernel.dtype == jnp.float32
    np.testing.assert_allclose(jnp.std(kernel), gain / 16, rtol=0.02)
    assert linear.bias is None
    assert projection(2, 3, nnx.Rngs(0), bias=True).bias is not None


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_projections_follow_the_type_of_their_input(dtype):
    linear = projection(4, 3, nnx.Rngs(0), bias=True)
    x = jnp.ones((2, 4), dtype)
    y = linear(x)
    assert y.dtype == dtype
    wanted = np.ones((2, 4)) @ np.asarray(linear.kernel[...])
    np.testing.assert_allclose(y.astype(jnp.float32), wanted, rtol=2e-2, atol=2e-2)


def test_the_stream_does_not_grow_with_depth():
    # Two maps per block, each adding a variance of gain^2.
    assert 2 * 6 * output_gain(6) ** 2 == pytest.approx(1)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_norm_is_taken_in_each_group(plain, groups, dtype):
    norm = RMSNorm(6, num_groups=groups)
    norm.scale[...] = jnp.arange(1.0, 7.0)
    x = np.random.default_rng(0).standard_normal((2, 3, 6)).astype(np.float32)
    y = norm(jnp.asarray(x, dtype))
    assert y.dtype == dtype
    for row, t in np.ndindex(2, 3):
        parts = np.split(x[row, t], groups)
        scales = np.split(np.arange(1.0, 7.0), groups)
        wanted = [plain.rms_norm(*part) for part in zip(parts, scales, strict=True)]
        tolerance = 1e-5 if dtype == jnp.float32 else 2e-2
        np.testing.assert_allclose(
            y[row, t].astype(jnp.float32),
            np.concatenate(wanted),
            rtol=tolerance,
            atol=tolerance,
        )


@pytest.mark.parametrize("bias", [True, False])
def test_convolution_is_the_plain_one_and_carries_its_tail(plain, bias):
    convolution = ShortConvolution(5, 4, nnx.Rngs(0), bias=bias)
    kernel = np.asarray(convolution.kernel[...])
    assert np.max(np.abs(kernel)) <= 0.5
    added = np.asarray(convolution.bias[...]) if bias else 0.0
    x = np.random.default_rng(0).standard_normal((1, 9, 5)).astype(np.float32)
    tail = convolution.init_tail(1)
    first, tail = convolution(jnp.asarray(x[:, :4]), tail, Layout())
    second, tail = convolution(jnp.asarray(x[:, 4:]), tail, Layout())
    y = np.concatenate([first[0], second[0]])
    wanted = plain.convolve(x[0], kernel, added)
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(tail[0], x[0, -3:])


def test_convolution_knows_documents_and_padding(plain):
    convolution = ShortConvolution(2, 3, nnx.Rngs(0))
    x = np.random.default_rng(0).standard_normal((1, 6, 2)).astype(np.float32)
    reset = jnp.arange(6)[None] == 2
    layout = Layout(reset=reset, length=jnp.array([5]))
    y, tail = convolution(jnp.asarray(x), jnp.ones((1, 2, 2)), layout)
    wanted = plain.convolve(x[0, 2:5], np.asarray(convolution.kernel[...]))
    np.testing.assert_allclose(y[0, 2:5], wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(tail[0], x[0, 3:5])


def test_tails_stay_float32():
    convolution = ShortConvolution(2, 3, nnx.Rngs(0))
    x = jnp.ones((1, 4, 2), jnp.bfloat16)
    y, tail = convolution(x, convolution.init_tail(1), Layout())
    assert (y.dtype, tail.dtype) == (jnp.bfloat16, jnp.float32)


def test_heads_are_neighbouring_channels():
    x = jnp.arange(12.0).reshape(1, 2, 6)
    heads = split_heads(x, 3)
    np.testing.assert_array_equal(heads[0, 1], [[6, 7], [8, 9], [10, 11]])
    np.testing.assert_array_equal(merge_heads(heads), x)
    assert jax.eval_shape(lambda x: split_heads(x, 1), x).shape == (1, 2, 1, 6)
