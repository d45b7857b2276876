"""The gated short convolution against its equation."""

import jax
import numpy as np
import pytest
from flax import nnx

from memzoo.models.gated_short_convolution import GatedShortConvolutionConfig
from memzoo.models.interface import state_bytes


def _loop(plain, params, x):
    inner = x @ params["value/kernel"] + params["value/bias"]
    mixed = plain.convolve(
        inner, params["value/convolution/kernel"], params["value/convolution/bias"]
    )
    gate = x @ params["read_out/gate/kernel"] + params["read_out/gate/bias"]
    y = plain.silu(mixed) * gate
    return y @ params["read_out/projection/kernel"] + params["read_out/projection/bias"]


@pytest.mark.parametrize(("taps", "expansion"), [(3, 2), (2, 1)])
def test_layer_is_its_equation(subject, assert_loop, plain, taps, expansion):
    config = GatedShortConvolutionConfig(convolution_size=taps, expansion=expansion)
    assert_loop(subject(config), lambda p, x: (_loop(plain, p, x), None))


def test_parameters_and_state_by_formula():
    width, inner = 8, 16
    layer = nnx.eval_shape(
        lambda: GatedShortConvolutionConfig().build(
            width, nnx.Rngs(0), layer_index=0, depth=2
        )
    )
    sizes = [leaf.size for leaf in jax.tree.leaves(nnx.state(layer, nnx.Param))]
    assert sum(sizes) == 3 * width * inner + 2 * inner + width + 4 * inner
    assert state_bytes(layer, 2048) == 4 * 2 * inner


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convolution_size": 0}, "convolution_size is 0; give a number above 0"),
        ({"convolution_size": 1}, "convolution_size is 1"),
        ({"expansion": 0}, "expansion is 0; give a number above 0"),
    ],
)
def test_senseless_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GatedShortConvolutionConfig(**options)


def test_state_starts_empty():
    layer = GatedShortConvolutionConfig().build(8, nnx.Rngs(0), layer_index=0, depth=2)
    state = layer.init_state(2, 5)
    np.testing.assert_array_equal(state.tail, np.zeros((2, 2, 16)))
    np.testing.assert_array_equal(state.position, [0, 0])
