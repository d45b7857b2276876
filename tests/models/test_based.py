"""Based against softmax-like weights 1 + s + s^2 / 2, token by token."""

import numpy as np
import pytest
from flax import nnx

from memzoo.models.based import BasedConfig
from memzoo.testing import check_layer


def _loop(plain, config, params, x):
    """y_t: the mean of the values, weighted by the Taylor series of exp."""
    streams = {}
    for name in ("query", "key", "value"):
        stream = x @ params[f"{name}/kernel"]
        if config.convolution_size:
            stream = plain.convolve(stream, params[f"{name}/convolution/kernel"])
        streams[name] = stream.reshape(len(x), config.num_heads, -1)
    outputs = []
    for t in range(len(x)):
        reads = []
        for h in range(config.num_heads):
            s = streams["key"][: t + 1, h] @ streams["query"][t, h]
            s = s / np.sqrt(config.feature_size)
            weight = 1 + s + s**2 / 2
            reads.append(weight @ streams["value"][: t + 1, h] / np.sum(weight))
        outputs.append(np.concatenate(reads) @ params["read_out/projection/kernel"])
    return np.stack(outputs), None


OPTIONS = [{}, {"feature_map": "taylor_full", "convolution_size": 3, "head_size": 3}]


@pytest.mark.parametrize("options", OPTIONS, ids=["taylor", "varied"])
def test_layer_is_the_published_mean(subject, assert_loop, plain, options):
    config = BasedConfig(num_heads=2, feature_size=3, chunk_size=4, **options)
    assert_loop(subject(config), lambda p, x: _loop(plain, config, p, x))


def test_the_memory_is_153_features_by_value_and_one():
    layer = BasedConfig(num_heads=2).build(8, nnx.Rngs(0), layer_index=0, depth=1)
    assert layer.init_memory(3).shape == (3, 2, 153, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convolution_size": 1}, "convolution_size is 1"),
        ({"feature_size": 0}, "feature_size is 0; give a number above 0"),
    ],
)
def test_senseless_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BasedConfig(**options)


@pytest.mark.slow
def test_variants_obey_the_laws():
    options = {"feature_map": "taylor_full", "convolution_size": 4}
    check_layer(BasedConfig(num_heads=2, feature_size=3, **options), width=8)
