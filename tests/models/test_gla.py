"""Gated linear attention against its equation, token by token."""

import numpy as np
import pytest
from flax import nnx

from memzoo.models.gla import GLAConfig
from memzoo.testing import check_layer


def _loop(plain, config, params, x):
    """S = diag(alpha) S + k v^T and o = S^T q / sqrt(k), head by head."""
    heads = config.num_heads
    streams = {}
    for name in ("query", "key", "value"):
        stream = x @ params[f"{name}/kernel"]
        if config.convolution_size:
            kernel = params[f"{name}/convolution/kernel"]
            stream = plain.silu(plain.convolve(stream, kernel))
        streams[name] = stream.reshape(len(x), heads, -1)
    decay = x @ params["decay/down/kernel"] @ params["decay/up/kernel"]
    decay = plain.sigmoid(decay + params["decay/up/bias"])
    alpha = decay.reshape(len(x), heads, -1) ** (1 / config.temperature)
    sizes = streams["key"].shape[-1], streams["value"].shape[-1]
    memory, outputs = np.zeros((heads, *sizes)), []
    for t in range(len(x)):
        reads = []
        for h in range(heads):
            memory[h] = alpha[t, h][:, None] * memory[h]
            memory[h] += np.outer(streams["key"][t, h], streams["value"][t, h])
            read = memory[h].T @ streams["query"][t, h] / np.sqrt(sizes[0])
            reads.append(plain.rms_norm(read, params["read_out/norm/scale"]))
        read = np.concatenate(reads)
        if config.output_gate:
            read = read * plain.silu(x[t] @ params["read_out/gate/kernel"])
        outputs.append(read @ params["read_out/projection/kernel"])
    return np.stack(outputs), memory


VARIED = {
    "convolution_size": 3,
    "value_ratio": 1,
    "head_size": 3,
    "output_gate": False,
    "decay_rank": 2,
    "temperature": 1.0,
}


@pytest.mark.parametrize("options", [{}, VARIED], ids=["published", "varied"])
def test_layer_is_the_published_loop(subject, assert_loop, plain, options):
    config = GLAConfig(num_heads=2, chunk_size=4, **options)
    assert_loop(subject(config), lambda p, x: _loop(plain, config, p, x))


def test_parameters_by_formula(subject):
    _, params, _ = subject(GLAConfig(num_heads=2))
    width, rank = 8, 16
    keys, values = width // 2, width
    wanted = 2 * width * keys + 3 * width * values + values // 2
    wanted += width * rank + rank * keys + keys
    assert sum(p.size for p in params.values()) == wanted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convolution_size": 1}, "convolution_size is 1"),
        ({"value_ratio": 0}, "value_ratio is 0; give a number above 0"),
        ({"decay_rank": 0}, "decay_rank is 0; give a number above 0"),
        ({"temperature": 0.0}, "temperature is 0.0; give a number above 0"),
    ],
)
def test_senseless_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GLAConfig(**options)


def test_values_that_do_not_divide_into_keys_are_refused():
    config = GLAConfig(num_heads=2, value_ratio=3)
    with pytest.raises(ValueError, match="value_ratio 3 does not divide 4, the width"):
        config.build(8, nnx.Rngs(0), layer_index=0, depth=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"convolution_size": 4}, {"output_gate": False}], ids=str
)
def test_variants_obey_the_laws(options):
    check_layer(GLAConfig(num_heads=2, **options), width=8)
