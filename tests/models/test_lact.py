"""LaCT against its equations, token by token, with gradients by hand in numpy."""

import numpy as np
import pytest

from memzoo.models.lact import LaCTConfig

SHARED = {"num_heads": 2, "update_every": 4, "initial_learning_rate": 0.3}


def _newton_schulz(matrix, steps):
    if not steps:
        return matrix
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    s = s / np.sqrt(np.sum(matrix**2) + 1e-6)
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ np.diag(s) @ v


def _ascent(plain, weights, key, value):
    """Return the gradients of <f(k), v> for the matrices gate, up and down."""
    gate, up = key @ weights["gate"], key @ weights["up"]
    hidden = weights["down"] @ value
    share = 1 / (1 + np.exp(-gate))
    slope = share * (1 + gate * (1 - share))
    return {
        "gate": np.outer(key, hidden * up * slope),
        "up": np.outer(key, hidden * plain.silu(gate)),
        "down": np.outer(plain.silu(gate) * up, value),
    }


def _read(plain, weights, query):
    hidden = plain.silu(query @ weights["gate"]) * (query @ weights["up"])
    return hidden @ weights["down"]


def _loop(plain, config, params, x):
    heads, names, streams = config.num_heads, ("gate", "up", "down"), {}
    for name in ("query", "key", "value"):
        kernel = params[f"{name}/convolution/kernel"]
        stream = plain.silu(plain.convolve(x @ params[f"{name}/kernel"], kernel))
        streams[name] = stream.reshape(len(x), heads, -1)

    def gate(name):
        return x @ params[f"{name}/kernel"] + params[f"{name}/bias"]

    eta = plain.softplus(gate("learning_rate")).reshape(len(x), heads, 3)
    mu = plain.sigmoid(gate("momentum")) if config.momentum else 0 * eta[..., 0]
    outputs = np.zeros((len(x), heads, x.shape[1] // heads))
    for h in range(heads):
        weights = {n: params[f"initial/{n}"][h] for n in names}
        norms = {n: np.linalg.norm(w, axis=0) for n, w in weights.items()}
        before = {n: 0 * w for n, w in weights.items()}
        for first in range(0, len(x), config.update_every):
            chunk = range(first, min(first + config.update_every, len(x)))
            step = {n: np.mean(mu[list(chunk), h]) * before[n] for n in names}
            for t in chunk:
                query, key = (plain.unit(streams[n][t, h]) for n in ("query", "key"))
                read = _read(plain, weights, query)
                outputs[t, h] = plain.rms_norm(read, params["read_out/norm/scale"])
                ascent = _ascent(plain, weights, key, streams["value"][t, h])
                for i, n in enumerate(names):
                    step[n] = step[n] + eta[t, h, i] * ascent[n]
            before = step
            for n in names:
                new = weights[n] + _newton_schulz(step[n], config.newton_schulz_steps)
                weights[n] = new / np.linalg.norm(new, axis=0) * norms[n]
    opened = plain.silu(x @ params["read_out/gate/kernel"])
    read = outputs.reshape(len(x), -1) * opened
    return read @ params["read_out/projection/kernel"], None


@pytest.mark.parametrize(
    "options",
    # Parts of two tokens must add up to a window of four.
    [{"chunk_size": 2}, {"newton_schulz_steps": 2, "momentum": False}],
    ids=["published", "muon"],
)
def test_layer_is_the_published_loop(subject, assert_loop, plain, options):
    config = LaCTConfig(**SHARED, **options)
    made = subject(config)
    assert_loop(made, lambda p, x: _loop(plain, config, p, x), rtol=1e-4)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"update_every": 0}, "update_every is 0; give a number above 0"),
        ({"newton_schulz_steps": -1}, "newton_schulz_steps is -1; give 0"),
        ({"initial_learning_rate": 0.0}, "initial_learning_rate is 0.0; give a number"),
    ],
)
def test_senseless_configs_are_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        LaCTConfig(**fields)
