"""The read-out against its formula in numpy."""

import jax
import numpy as np
import pytest
from flax import nnx

from memzoo.models.projection import RMSNorm, projection
from memzoo.models.read_out import ReadOut

HEADS, SIZE, WIDTH = 2, 3, 5
INNER = HEADS * SIZE


def _numbers(module, name):
    """Redraw a parameter and return it."""
    param = getattr(module, name)
    array = np.random.default_rng(len(name)).standard_normal(param.shape)
    param[...] = array.astype(np.float32)
    return np.asarray(param[...], np.float64)


ACTIVATIONS = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "gelu": lambda x: (
        0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    ),
    "identity": lambda x: x,
}


@pytest.mark.parametrize("gate_first", [False, True])
@pytest.mark.parametrize("per_head", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_norm_gate_and_projection(per_head, gate_first, activation):
    rngs = nnx.Rngs(0)
    channels = SIZE if per_head else INNER
    out = ReadOut(
        INNER,
        WIDTH,
        rngs,
        depth=2,
        norm=RMSNorm(channels, 0.1),
        norm_per_head=per_head,
        gate=projection(WIDTH, INNER, rngs, bias=True),
        activation=activation,
        gate_first=gate_first,
        bias=True,
    )
    scale = _numbers(out.norm, "scale")
    gate, shift = _numbers(out.gate, "kernel"), _numbers(out.gate, "bias")
    kernel, bias = _numbers(out.projection, "kernel"), _numbers(out.projection, "bias")
    rng = np.random.default_rng(0)
    read = rng.standard_normal((2, 4, HEADS, SIZE)).astype(np.float32)
    x = rng.standard_normal((2, 4, WIDTH)).astype(np.float32)

    def norm(y):
        parts = y.reshape(2, 4, -1, channels)
        parts = parts / np.sqrt(np.mean(parts**2, axis=-1, keepdims=True) + 0.1)
        return (parts * scale).reshape(2, 4, INNER)

    y, factor = read.reshape(2, 4, INNER), ACTIVATIONS[activation](x @ gate + shift)
    y = norm(y * factor) if gate_first else norm(y) * factor
    np.testing.assert_allclose(
        jax.jit(out)(read, x), y @ kernel + bias, rtol=1e-4, atol=1e-5
    )


def test_every_part_but_the_projection_is_optional():
    out = ReadOut(INNER, WIDTH, nnx.Rngs(0), depth=None)
    read = np.random.default_rng(0).standard_normal((1, 4, HEADS, SIZE))
    read = read.astype(np.float32)
    kernel = np.asarray(out.projection.kernel[...])
    wanted = read.reshape(1, 4, INNER) @ kernel
    np.testing.assert_allclose(jax.jit(out)(read, wanted), wanted, rtol=1e-5, atol=1e-6)
    names = [path[0] for path, _ in nnx.to_flat_state(nnx.state(out, nnx.Param))]
    assert names == ["projection"]


def test_the_gain_falls_with_depth_into_the_residual_stream():
    kernels = [
        ReadOut(INNER, WIDTH, nnx.Rngs(0), depth=depth).projection.kernel[...]
        for depth in (None, 8)
    ]
    np.testing.assert_allclose(kernels[1], kernels[0] / 4, rtol=1e-6)
