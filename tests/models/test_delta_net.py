"""DeltaNet against its equation, token by token."""

import numpy as np
import pytest

from memzoo.models.delta_net import DeltaNetConfig
from memzoo.testing import check_layer


def _loop(plain, config, params, x):
    """S_t = S + beta k (v - S^T k)^T and o = S^T q / sqrt(k), head by head."""
    heads = config.num_heads
    streams = {}
    for name in ("query", "key", "value"):
        stream = x @ params[f"{name}/kernel"]
        if config.convolution_size:
            kernel = params[f"{name}/convolution/kernel"]
            stream = plain.convolve(stream, kernel)
        streams[name] = plain.silu(stream).reshape(len(x), heads, -1)
    size = streams["key"].shape[-1]
    strength = plain.sigmoid(x @ params["write_strength/kernel"])
    if config.negative_eigenvalues:
        strength = 2 * strength
    memory, outputs = np.zeros((heads, size, size)), []
    for t in range(len(x)):
        reads = []
        for h in range(heads):
            query, key = plain.unit(streams["query"][t, h]), streams["key"][t, h]
            step = strength[t, h]
            if config.step_size == "gate":
                key = plain.unit(key)
            else:
                step = (1 - np.exp(-step * key @ key)) / (key @ key)
            error = streams["value"][t, h] - memory[h].T @ key
            memory[h] += step * np.outer(key, error)
            read = memory[h].T @ query / np.sqrt(size)
            reads.append(plain.rms_norm(read, params["read_out/norm/scale"]))
        outputs.append(np.concatenate(reads) @ params["read_out/projection/kernel"])
    return np.stack(outputs), memory


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"convolution_size": 0, "negative_eigenvalues": True, "head_size": 3},
        {"convolution_size": 0, "step_size": "error_free"},
    ],
    ids=["published", "varied", "error_free"],
)
def test_layer_is_the_published_loop(subject, assert_loop, plain, options):
    config = DeltaNetConfig(num_heads=2, chunk_size=4, **options)
    assert_loop(subject(config), lambda p, x: _loop(plain, config, p, x))


def test_parameters_by_formula(subject):
    _, params, _ = subject(DeltaNetConfig(num_heads=2))
    width, heads, taps = 8, 2, 4
    wanted = 4 * width**2 + 3 * taps * width + width * heads + width // heads
    assert sum(p.size for p in params.values()) == wanted


@pytest.mark.parametrize("size", [-1, 1])
def test_one_tap_is_refused(size):
    with pytest.raises(ValueError, match=f"convolution_size is {size}; give 0"):
        DeltaNetConfig(convolution_size=size)


def test_a_step_size_without_negative_eigenvalues_refuses_them():
    with pytest.raises(ValueError, match="implicit has no negative eigenvalues"):
        DeltaNetConfig(step_size="implicit", negative_eigenvalues=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"negative_eigenvalues": True}, {"convolution_size": 0}, {"head_size": 5}],
    ids=str,
)
def test_variants_obey_the_laws(options):
    check_layer(DeltaNetConfig(num_heads=2, **options), width=8)
