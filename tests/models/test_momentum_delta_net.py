"""Momentum DeltaNet against its equation, token by token."""

import numpy as np
import pytest

from memzoo.models.mixture_of_memories import MixtureOfMemoriesConfig
from memzoo.models.momentum_delta_net import MomentumDeltaNetConfig
from memzoo.testing import check_layer


def _loop(plain, config, params, x):
    """M = mu M - eta k (v - S^T p)^T and S = alpha S - beta M, head by head."""
    heads, streams = config.num_heads, {}
    for name in ("query", "key", "value"):
        stream = x @ params[f"{name}/kernel"]
        if config.convolution_size:
            kernel = params[f"{name}/convolution/kernel"]
            stream = plain.convolve(stream, kernel)
        streams[name] = plain.silu(stream).reshape(len(x), heads, -1)
    eta, mu, beta = (
        plain.sigmoid(x @ params[f"{name}/kernel"])
        for name in ("learning_rate", "momentum", "write_strength")
    )
    time = plain.softplus(x @ params["decay/kernel"] + params["decay/time_bias"])
    alpha = np.exp(-np.exp(params["decay/log_a"]) * time)
    sizes = streams["key"].shape[-1], streams["value"].shape[-1]
    memory, momentum = np.zeros((2, heads, *sizes))
    outputs = []
    for t in range(len(x)):
        reads = []
        for h in range(heads):
            query, key = (plain.unit(streams[n][t, h]) for n in ("query", "key"))
            erase = alpha[t, h] * key if config.decayed_residual else key
            error = streams["value"][t, h] - memory[h].T @ erase
            momentum[h] = mu[t, h] * momentum[h] - eta[t, h] * np.outer(key, error)
            memory[h] = alpha[t, h] * memory[h] - beta[t, h] * momentum[h]
            read = memory[h].T @ query / np.sqrt(sizes[0])
            reads.append(plain.rms_norm(read, params["read_out/norm/scale"]))
        read = np.concatenate(reads)
        if config.output_gate:
            read = read * plain.silu(x[t] @ params["read_out/gate/kernel"])
        outputs.append(read @ params["read_out/projection/kernel"])
    return np.stack(outputs), memory, momentum


VARIED = {
    "convolution_size": 0,
    "decayed_residual": False,
    "head_size": 3,
    "value_ratio": 1,
    "output_gate": False,
    "fastest_decay": 1.0,
}


@pytest.mark.parametrize("options", [{}, VARIED], ids=["published", "varied"])
def test_layer_is_the_published_loop(subject, assert_loop, plain, options):
    config = MomentumDeltaNetConfig(num_heads=2, chunk_size=4, **options)
    made = subject(config)
    assert_loop(made, lambda p, x: (_loop(plain, config, p, x)[0], None))
    _, state = made.layer(made.x, made.layer.init_state(2, 0))
    _, memory, momentum = _loop(
        plain, config, made.params, np.asarray(made.x[0], np.float64)
    )
    for found, wanted in zip(state.memory, (memory, -momentum), strict=True):
        scale = np.max(np.abs(wanted))
        np.testing.assert_allclose(found[0], wanted, rtol=2e-5, atol=2e-5 * scale)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convolution_size": 1}, "convolution_size is 1"),
        ({"value_ratio": 0}, "value_ratio is 0; give a number above 0"),
        ({"fastest_decay": 0.0}, "fastest_decay is 0.0; give a number above 0"),
    ],
)
def test_senseless_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MomentumDeltaNetConfig(**options)


@pytest.mark.slow
def test_variants_obey_the_laws():
    check_layer(MomentumDeltaNetConfig(num_heads=2, **VARIED), width=8)


@pytest.mark.slow
def test_a_mixture_of_it_obeys_the_laws():
    memory = MomentumDeltaNetConfig(num_heads=2, chunk_size=4)
    check_layer(MixtureOfMemoriesConfig(memory=memory), width=8)
