"""Intention against its equation: one solve in numpy for every token."""

import numpy as np
import pytest
from flax import nnx

from memzoo.models.intention import IntentionConfig
from memzoo.models.interface import state_bytes
from memzoo.testing import check_layer


def _loop(plain, config, params, x):
    """o_t = kappa(q_t, K_t) (kappa(K_t, K_t) + r I)^-1 V_t, head by head."""
    streams = {}
    for name in ("query", "key", "value"):
        stream = x @ params[f"{name}/kernel"]
        if config.convolution_size:
            stream = plain.convolve(stream, params[f"{name}/convolution/kernel"])
        streams[name] = stream.reshape(len(x), config.num_heads, -1)

    def kernel(q, k):
        product = q @ k.T
        if config.kernel == "linear":
            return product
        return np.exp((product - 1) / config.bandwidth)

    ridge = config.ridge_floor + plain.softplus(params["ridge/unbounded"])
    outputs = []
    for t in range(len(x)):
        reads = []
        for h in range(config.num_heads):
            keys = np.stack([plain.unit(k) for k in streams["key"][: t + 1, h]])
            query = plain.unit(streams["query"][t, h])
            matrix = kernel(keys, keys) + ridge[h] * np.eye(t + 1)
            weight = np.linalg.solve(matrix, kernel(keys, query))
            reads.append(weight @ streams["value"][: t + 1, h])
        outputs.append(np.concatenate(reads) @ params["read_out/projection/kernel"])
    return np.stack(outputs), None


VARIED = {"kernel": "linear", "convolution_size": 0, "head_size": 3, "ridge_floor": 0.5}


@pytest.mark.parametrize("options", [{}, VARIED], ids=["exponential", "linear"])
def test_layer_is_the_regression(subject, assert_loop, plain, options):
    config = IntentionConfig(num_heads=2, **options)
    assert_loop(subject(config), lambda p, x: _loop(plain, config, p, x))


def test_the_state_holds_keys_values_and_the_factor():
    layer = IntentionConfig(num_heads=2, convolution_size=0).build(
        8, nnx.Rngs(0), layer_index=0, depth=1
    )
    assert state_bytes(layer, 10) == 4 * 2 * (10 * 4 + 10 * 10 + 10 * 4)
    with pytest.raises(ValueError, match="max_length is -1; give 0"):
        layer.init_state(1, -1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convolution_size": 1}, "convolution_size is 1"),
        ({"bandwidth": 0.0}, "bandwidth is 0.0; give a number above 0"),
        ({"ridge_floor": -1.0}, "ridge_floor is -1.0; give a number above 0"),
    ],
)
def test_senseless_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        IntentionConfig(**options)


def test_an_unknown_kernel_is_refused():
    config = IntentionConfig()
    # The field's type refuses other words before the check does.
    object.__setattr__(config, "kernel", "cosine")
    message = "kernel is 'cosine'; choose one of linear, exponential"
    with pytest.raises(ValueError, match=message):
        config.__post_init__()


@pytest.mark.slow
def test_variants_obey_the_laws():
    check_layer(IntentionConfig(num_heads=2, kernel="linear"), width=8)
