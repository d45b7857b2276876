"""Gated Oja's rule against its equation, token by token."""

import numpy as np
import pytest

from memzoo.models.mixture_of_memories import MixtureOfMemoriesConfig
from memzoo.models.oja import OjaConfig
from memzoo.testing import check_layer


def _loop(plain, config, params, x):
    """S = S diag(alpha), S += beta (k - S v) v^T and o = S^T q / sqrt(k), by head."""
    heads, streams = config.num_heads, {}
    for name in ("query", "key", "value"):
        stream = x @ params[f"{name}/kernel"]
        if config.convolution_size:
            kernel = params[f"{name}/convolution/kernel"]
            stream = plain.convolve(stream, kernel)
        streams[name] = plain.silu(stream).reshape(len(x), heads, -1)
    strength = plain.sigmoid(x @ params["write_strength/kernel"])
    time = x @ params["decay/time/down/kernel"] @ params["decay/time/up/kernel"]
    time = plain.softplus(time + params["decay/time_bias"])
    rate = np.exp(params["decay/log_a"])[None, :, None]
    alpha = np.exp(-rate * time.reshape(len(x), heads, -1))
    sizes = streams["key"].shape[-1], streams["value"].shape[-1]
    memory, outputs = np.zeros((heads, *sizes)), []
    for t in range(len(x)):
        reads = []
        for h in range(heads):
            query, key, value = (plain.unit(s[t, h]) for s in streams.values())
            memory[h] = memory[h] @ np.diag(alpha[t, h])
            error = key - memory[h] @ value
            memory[h] += strength[t, h] * np.outer(error, value)
            read = memory[h].T @ query / np.sqrt(sizes[0])
            reads.append(plain.rms_norm(read, params["read_out/norm/scale"]))
        read = np.concatenate(reads)
        if config.output_gate:
            read = read * plain.silu(x[t] @ params["read_out/gate/kernel"])
        outputs.append(read @ params["read_out/projection/kernel"])
    return np.stack(outputs), memory


VARIED = {
    "convolution_size": 0,
    "head_size": 3,
    "value_ratio": 2,
    "output_gate": False,
    "gate_rank": 2,
    "fastest_decay": 1.0,
}


@pytest.mark.parametrize("options", [{}, VARIED], ids=["default", "varied"])
def test_layer_is_the_loop(subject, assert_loop, plain, options):
    config = OjaConfig(num_heads=2, chunk_size=4, **options)
    assert_loop(subject(config), lambda p, x: _loop(plain, config, p, x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convolution_size": 1}, "convolution_size is 1"),
        ({"value_ratio": 0}, "value_ratio is 0; give a number above 0"),
        ({"gate_rank": 0}, "gate_rank is 0; give a number above 0"),
        ({"fastest_decay": 0.0}, "fastest_decay is 0.0; give a number above 0"),
    ],
)
def test_senseless_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        OjaConfig(**options)


@pytest.mark.slow
def test_a_mixture_of_it_obeys_the_laws():
    memory = OjaConfig(num_heads=2, chunk_size=4)
    check_layer(MixtureOfMemoriesConfig(memory=memory), width=8)
