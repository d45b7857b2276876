"""OmegaNet and ATLAS against their equations, token by token, in numpy."""

import itertools
import math

import numpy as np
import pytest

from memzoo.models.atlas import AtlasConfig
from memzoo.models.omega_net import OmegaNetConfig

SHARED = {
    "num_heads": 2,
    "memory_depth": 1,
    "update_every": 4,
    "feature_size": 2,
    "loss_window": 3,
    "clip": None,
}


def _monomials(x, degree, scale):
    """Return all products of up to `degree` numbers, the square of their sum exp."""
    features = [scale[0]]
    for n in range(1, degree + 1):
        for chosen in itertools.combinations_with_replacement(range(len(x)), n):
            powers = [chosen.count(i) for i in range(len(x))]
            weight = np.prod([1 / math.factorial(p) for p in powers]) ** 0.5
            features.append(scale[n] * weight * np.prod(x[list(chosen)]))
    return np.array(features)


def _newton_schulz(matrix, steps):
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    s = s / np.sqrt(np.sum(matrix**2) + 1e-6)
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ np.diag(s) @ v


def _loop(plain, config, params, x):
    streams = {}
    for name in ("query", "key", "value"):
        kernel = params[f"{name}/convolution/kernel"]
        stream = plain.silu(plain.convolve(x @ params[f"{name}/kernel"], kernel))
        streams[name] = stream.reshape(len(x), config.num_heads, -1)

    def gate(name):
        return plain.sigmoid(x @ params[f"{name}/kernel"] + params[f"{name}/bias"])

    def phi(name, t, h):
        unit = plain.unit(streams[name][t, h])
        return _monomials(unit, config.degree, params["feature_scale"])

    theta, alpha = config.max_learning_rate * gate("learning_rate"), gate("forget")
    eta = gate("momentum") if config.has_momentum else np.zeros_like(theta)
    memory = list(params["initial/kernel_0"])
    anchor, momentum = list(memory), [0 * m for m in memory]
    outputs = []
    for t in range(len(x)):
        reads = []
        for h in range(config.num_heads):
            if t % config.update_every == 0:
                anchor[h] = memory[h]
            step = 0
            for i in range(max(0, t - config.loss_window + 1), t + 1):
                key, value = phi("key", i, h), streams["value"][i, h]
                step = step + 2 * np.outer(key, key @ anchor[h] - value)
            if config.has_momentum:
                momentum[h] = eta[t, h] * momentum[h] - step
                step = -_newton_schulz(momentum[h], config.newton_schulz_steps)
            memory[h] = (1 - alpha[t, h]) * memory[h] - theta[t, h] * step
            read = phi("query", t, h) @ memory[h]
            reads.append(plain.rms_norm(read, params["read_out/norm/scale"]))
        gated = np.concatenate(reads) * plain.silu(
            x[t] @ params["read_out/gate/kernel"]
        )
        outputs.append(gated @ params["read_out/projection/kernel"])
    return np.stack(outputs), None


@pytest.mark.parametrize("kind", [OmegaNetConfig, AtlasConfig])
def test_layer_is_the_published_loop(subject, assert_loop, plain, kind):
    config = kind(**SHARED)
    made = subject(config)
    assert_loop(made, lambda p, x: _loop(plain, config, p, x), rtol=2e-4)


def test_the_step_of_repeated_keys_counts_the_features():
    config = OmegaNetConfig(**SHARED)
    assert config.step_of_repeated_keys == pytest.approx(2 * 0.1 * 4 * 3 * 2.5)
    assert AtlasConfig(**SHARED).step_of_repeated_keys == 0


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        (OmegaNetConfig, {"degree": 0}, "degree is 0; give a number above 0"),
        (OmegaNetConfig, {"feature_size": 0}, "feature_size is 0; give a number above"),
        (AtlasConfig, {"newton_schulz_steps": 0}, "newton_schulz_steps is 0; give a"),
    ],
)
def test_senseless_configs_are_refused(kind, fields, said):
    with pytest.raises(ValueError, match=said):
        kind(**fields)
