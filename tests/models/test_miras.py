"""Yaad, moneta and memora against their equations, token by token, in numpy."""

import numpy as np
import pytest

from memzoo.models.memora import MemoraConfig
from memzoo.models.moneta import MonetaConfig
from memzoo.models.yaad import YaadConfig

SHARED = {"num_heads": 2, "memory_depth": 1, "update_every": 4, "clip": None}


def _standardise(x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-6)


def _gradient(weight, key, slope):
    """Return grad of l(k + norm(k W)), where `slope` maps the output to grad l."""
    out = key @ weight
    y = _standardise(out)
    e = slope(key + y)
    back = (e - e.mean() - y * np.mean(e * y)) / np.sqrt(out.var() + 1e-6)
    return np.outer(key, back)


def _huber(read, value, threshold):
    error = read - value
    return error * min(1.0, threshold / np.linalg.norm(error))


def _cube(read, value, threshold):
    del threshold
    error = read - value
    return 3 * np.sqrt(error**2 + 1e-6) * error


def _half(read, value, threshold):
    del threshold
    return read - value


def _softmax(a):
    weight = np.exp(a - a.max(axis=0))
    return len(a) * weight / weight.sum(axis=0)


LAYERS = {
    "yaad": (YaadConfig, _huber, lambda a: a),
    "moneta": (MonetaConfig, _cube, lambda a: a / np.sqrt(np.sum(a**4))),
    "memora": (MemoraConfig, _half, _softmax),
}


def _loop(plain, config, slope, link, params, x):
    streams = {}
    for name in ("query", "key", "value"):
        kernel = params[f"{name}/convolution/kernel"]
        stream = plain.silu(plain.convolve(x @ params[f"{name}/kernel"], kernel))
        streams[name] = stream.reshape(len(x), config.num_heads, -1)

    def gate(name):
        return x @ params[f"{name}/kernel"] + params[f"{name}/bias"]

    theta = config.max_learning_rate * plain.sigmoid(gate("learning_rate"))
    alpha = plain.sigmoid(gate("forget"))
    size = streams["value"].shape[-1]
    delta = np.zeros_like(theta)
    if config.write_rule().loss == "huber":
        delta = np.sqrt(size) * plain.softplus(gate("threshold"))
    kept = list(params["initial/kernel_0"])
    anchor, outputs = list(kept), []
    for t in range(len(x)):
        reads = []
        for h in range(config.num_heads):
            if t % config.update_every == 0:
                anchor[h] = link(kept[h])
            query, key = (plain.unit(streams[n][t, h]) for n in ("query", "key"))
            value = streams["value"][t, h]
            step = _gradient(
                anchor[h],
                key,
                lambda r, v=value, d=delta[t, h]: slope(r, v, d),
            )
            kept[h] = (1 - alpha[t, h]) * kept[h] - theta[t, h] * step
            read = query + _standardise(query @ link(kept[h]))
            reads.append(plain.rms_norm(read, params["read_out/norm/scale"]))
        gated = np.concatenate(reads) * plain.silu(
            x[t] @ params["read_out/gate/kernel"]
        )
        outputs.append(gated @ params["read_out/projection/kernel"])
    return np.stack(outputs), None


@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_the_published_loop(subject, assert_loop, plain, name):
    kind, slope, link = LAYERS[name]
    config = kind(**SHARED)
    made = subject(config)
    # Values of a few units lie on both sides of the threshold.
    made.params["value/kernel"] *= 4
    made.layer.value.kernel[...] = 4 * made.layer.value.kernel[...]
    assert_loop(made, lambda p, x: _loop(plain, config, slope, link, p, x), rtol=1e-4)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"loss_power": 1.0}, "loss_power is 1.0; give one above 1"),
        ({"norm_power": 1.5}, "norm_power is 1.5; give one of 2 or more"),
        ({"max_learning_rate": 0.0}, "max_learning_rate is 0.0; give a number above 0"),
    ],
)
def test_senseless_configs_are_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        MonetaConfig(**fields)


def test_a_step_is_bounded_only_for_linear_rules():
    assert YaadConfig(**SHARED).step_of_repeated_keys == pytest.approx(0.4)
    assert MonetaConfig(**SHARED).step_of_repeated_keys == 0
    assert MemoraConfig(**SHARED).step_of_repeated_keys == 0
