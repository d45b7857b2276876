"""Kimi Delta Attention against its equation, token by token."""

import numpy as np
import pytest

from memzoo.models.kda import KDAConfig
from memzoo.testing import check_layer


def _loop(plain, config, params, x):
    """S = diag(alpha) S, S += beta k (v - S^T k)^T and o = S^T q / sqrt(k)."""
    heads = config.num_heads
    streams = {}
    for name in ("query", "key", "value"):
        stream = x @ params[f"{name}/kernel"]
        if config.convolution_size:
            kernel = params[f"{name}/convolution/kernel"]
            stream = plain.convolve(stream, kernel)
        streams[name] = plain.silu(stream).reshape(len(x), heads, -1)
    strength = plain.sigmoid(x @ params["write_strength/kernel"])
    if config.negative_eigenvalues:
        strength = 2 * strength
    time = x @ params["decay/time/down/kernel"] @ params["decay/time/up/kernel"]
    time = plain.softplus(time + params["decay/time_bias"])
    rate = np.exp(params["decay/log_a"])[None, :, None]
    alpha = np.exp(-rate * time.reshape(len(x), heads, -1))
    sizes = streams["key"].shape[-1], streams["value"].shape[-1]
    memory, outputs = np.zeros((heads, *sizes)), []
    for t in range(len(x)):
        reads = []
        for h in range(heads):
            query, key = (plain.unit(streams[n][t, h]) for n in ("query", "key"))
            memory[h] = alpha[t, h][:, None] * memory[h]
            error = streams["value"][t, h] - memory[h].T @ key
            memory[h] += strength[t, h] * np.outer(key, error)
            read = memory[h].T @ query / np.sqrt(sizes[0])
            reads.append(plain.rms_norm(read, params["read_out/norm/scale"]))
        read = np.concatenate(reads)
        if config.output_gate:
            gate = (
                x[t]
                @ params["read_out/gate/down/kernel"]
                @ params["read_out/gate/up/kernel"]
            )
            read = read * plain.sigmoid(gate + params["read_out/gate/up/bias"])
        outputs.append(read @ params["read_out/projection/kernel"])
    return np.stack(outputs), memory


VARIED = {
    "convolution_size": 0,
    "negative_eigenvalues": True,
    "head_size": 3,
    "value_ratio": 2,
    "output_gate": False,
    "gate_rank": 2,
    "fastest_decay": 1.0,
}


@pytest.mark.parametrize("options", [{}, VARIED], ids=["published", "varied"])
def test_layer_is_the_published_loop(subject, assert_loop, plain, options):
    config = KDAConfig(num_heads=2, chunk_size=4, **options)
    assert_loop(subject(config), lambda p, x: _loop(plain, config, p, x))


def test_parameters_by_formula(subject):
    _, params, _ = subject(KDAConfig(num_heads=2))
    width, heads, taps = 8, 2, 4
    rank = width // heads
    wanted = 4 * width**2 + 3 * taps * width + width * heads + rank
    # Low-rank maps to the decays, and to the output gate with its bias.
    wanted += 2 * (width * rank + rank * width) + heads + 2 * width
    assert sum(p.size for p in params.values()) == wanted


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
        KDAConfig(**options)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"negative_eigenvalues": True, "convolution_size": 0}, {"output_gate": False}],
    ids=str,
)
def test_variants_obey_the_laws(options):
    check_layer(KDAConfig(num_heads=2, **options), width=8)
