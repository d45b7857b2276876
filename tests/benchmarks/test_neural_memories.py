"""Our neural memories against plain loops over the tokens, in float64 numpy."""

import numpy as np
import pytest

from memzoo.benchmarks.cases import Case
from memzoo.benchmarks.inputs import make_inputs
from memzoo.benchmarks.runner import options_of
from memzoo.benchmarks.worker_jax import prepare

UPDATE_EVERY = 4


def case_of(operation):
    return Case(
        operation=operation,
        time=10,
        num_heads=2,
        head_size=4,
        update_every=UPDATE_EVERY,
    )


def layer_norm(z, scale, bias):
    centred = z - z.mean(-1, keepdims=True)
    return centred / np.sqrt(z.var(-1, keepdims=True) + 1e-6) * scale + bias


def norm_gradient(z, scale, bias, target):
    """Gradient of half ||norm(z) - target||^2 for z."""
    deviation = np.sqrt(z.var() + 1e-6)
    hat = (z - z.mean()) / deviation
    g = (hat * scale + bias - target) * scale
    return (g - g.mean() - hat * (g * hat).mean()) / deviation


def titans(x):
    """q + norm(q W), W written as the peer does but for its layer norm's gradient."""
    rows, time, heads, size = x["k"].shape
    out = np.zeros((rows, time, heads, size))
    for h in range(heads):
        norm = x["norm"][h], x["norm_bias"][h]
        memory, momentum = np.zeros((size, size)), np.zeros((size, size))
        for t in range(time):
            anchor = memory if t % UPDATE_EVERY == 0 else anchor
            q, k, v = (x[name][0, t, h] for name in ("q", "k", "v"))
            u = 2 * np.outer(k, norm_gradient(k @ anchor, *norm, v - k))
            rate, kept, forget = (
                x[name][0, t, h] for name in ("learning_rate", "momentum", "forget")
            )
            momentum = kept * momentum - rate * u
            memory = (1 - forget) * memory + momentum
            out[0, t, h] = q + layer_norm(q @ memory, *norm)
    return out


def ttt(x):
    """q + norm(q W + b); all steps of a window are scaled by the token that reads."""
    rows, time, heads, size = x["k"].shape
    out = np.zeros((rows, time, heads, size))
    for h in range(heads):
        norm = x["norm"][h], x["norm_bias"][h]
        memory, bias = np.zeros((size, size)), np.zeros(size)
        for t in range(time):
            if t % UPDATE_EVERY == 0:
                anchors, steps = (memory, bias), (0.0, 0.0)
            q, k, v = (x[name][0, t, h] for name in ("q", "k", "v"))
            q = q * size**-0.5
            u = norm_gradient(k @ anchors[0] + anchors[1], *norm, v - k)
            steps = steps[0] + np.outer(k, u), steps[1] + u
            step = x["step"][0, t, h]
            memory, bias = (a - step * s for a, s in zip(anchors, steps, strict=True))
            out[0, t, h] = q + layer_norm(q @ memory + bias, *norm)
    return out


@pytest.mark.parametrize("expected", [titans, ttt])
def test_memories_under_a_norm_are_what_their_loops_say(expected):
    x = make_inputs(case_of(expected.__name__), seed=0)
    prepared = prepare(dict(x), options_of(case_of(expected.__name__)))
    prepared.call()
    results = prepared.results()
    wide = {name: value.astype(np.float64) for name, value in x.items()}
    np.testing.assert_allclose(results["output"], expected(wide), atol=2e-5)
    del x["cotangent"]
    assert set(results) == {"output", *(f"gradient_{name}" for name in x)}
    for name, value in x.items():
        gradient = results[f"gradient_{name}"]
        assert gradient.shape == value.shape and np.abs(gradient).max() > 0


def test_a_module_uses_every_one_of_its_parameters():
    x = make_inputs(case_of("titans_lmm"), seed=0)
    prepared = prepare(dict(x), options_of(case_of("titans_lmm")))
    prepared.call()
    results = prepared.results()
    assert results["output"].shape == x["x"].shape
    del x["cotangent"]
    for name, value in x.items():
        gradient = results[f"gradient_{name}"]
        assert gradient.shape == value.shape and np.abs(gradient).max() > 0
