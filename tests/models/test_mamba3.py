"""Mamba-3 against its equation, token by token."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.mamba3 import Mamba3Config
from memzoo.testing import check_layer


def _rotate(x, angle):
    """Turn the pairs (2i, 2i + 1) as complex numbers; channels without one stay."""
    size = 2 * len(angle)
    pairs = (x[..., :size:2] + 1j * x[..., 1:size:2]) * np.exp(1j * angle)
    turned = np.stack([pairs.real, pairs.imag], axis=-1)
    return np.concatenate([turned.reshape(*x.shape[:-1], size), x[..., size:]], -1)


def _loop(plain, config, params, x):
    """S = a S + (1 - l) dt a k' v'^T + l dt k v^T, o = S^T q + D v; ranks are added."""
    heads, rank, groups = len(params["skip"]), config.rank, config.num_groups
    time = plain.softplus(x @ params["time/kernel"] + params["time_bias"])
    raw = x @ params["decay/kernel"]
    rate = np.where(raw >= 0, 1 + raw, 1 / (1 - np.minimum(raw, 0)))
    alpha = np.exp(-time * np.maximum(rate, config.least_rate))
    share = plain.sigmoid(x @ params["trapezoid/kernel"])
    turn = np.pi * np.tanh(x @ params["angle/kernel"])
    keys = {
        name: np.apply_along_axis(
            plain.rms_norm,
            -1,
            (x @ params[f"{name}/kernel"]).reshape(len(x), rank, groups, -1),
            params[f"{name}_norm/scale"],
            config.norm_epsilon,
        )
        for name in ("key", "query")
    }
    ones = np.ones((heads, 1, config.head_size))
    mimo = {n: params.get(f"mimo_{n}", ones) for n in ("value", "gate", "read")}
    values = (x @ params["value/kernel"]).reshape(len(x), heads, 1, -1) * mimo["value"]
    outputs = []
    memory = np.zeros((heads, config.state_size, config.head_size))
    before, held = np.zeros_like(memory), np.zeros_like(memory)
    angle = np.zeros((heads, config.num_angles))
    for t in range(len(x)):
        reads = []
        for h in range(heads):
            group = h // (heads // groups)
            angle[h] += time[t, h] * turn[t]
            k, q = (
                _rotate(keys[n][t, :, group] + params[f"{n}_bias"][h], angle[h])
                for n in ("key", "query")
            )
            v = values[t, h]
            dt, a, right = time[t, h], alpha[t, h], share[t, h] * time[t, h]
            memory[h] = a * memory[h] + (1 - share[t, h]) * dt * a * before[h]
            held[h] = memory[h]
            before[h] = k.T @ v
            memory[h] = memory[h] + right * before[h]
            y = q @ memory[h] + params["skip"][h] * v
            if config.output_gate:
                gate = (x[t] @ params["read_out/gate/kernel"]).reshape(heads, -1)[h]
                y = y * plain.silu(gate * mimo["gate"][h])
            reads.append(np.sum(y * mimo["read"][h], axis=0))
        outputs.append(np.concatenate(reads) @ params["read_out/projection/kernel"])
    return np.stack(outputs), held


VARIED = {
    "rank": 2,
    "num_groups": 2,
    "expand": 1,
    "head_size": 2,
    "state_size": 6,
    "rotary_fraction": 1.0,
    "output_gate": False,
    # In the way of half of the rates.
    "least_rate": 0.9,
    "norm_epsilon": 0.01,
}


@pytest.mark.parametrize(
    "options",
    [{}, VARIED, {"rank": 3}],
    ids=["published", "varied", "ranks"],
)
def test_layer_is_the_published_loop(subject, assert_loop, plain, options):
    options = {"head_size": 8, "state_size": 5, "chunk_size": 4} | options
    config = Mamba3Config(**options)
    assert_loop(subject(config), lambda p, x: _loop(plain, config, p, x))


def test_parameters_by_formula(subject):
    _, params, _ = subject(Mamba3Config(head_size=4, state_size=5, rank=2))
    width, inner, heads, shared, angles = 8, 16, 4, 10, 1
    projected = 2 * inner + 2 * shared + 3 * heads + angles
    others = 2 * heads + 2 * 5 + 2 * heads * shared + 3 * 2 * inner
    assert sum(p.size for p in params.values()) == (
        width * projected + others + inner * width
    )


def test_parameters_start_as_published():
    config = Mamba3Config(head_size=4, state_size=6, rank=2)
    layer = config.build(32, nnx.Rngs(0), layer_index=0, depth=2)
    time = nnx.softplus(layer.time_bias[...])
    assert 0.999e-3 < jnp.min(time) < jnp.max(time) < 0.1001
    config = dataclasses.replace(config, initial_time=(0.5, 2.0))
    slower = config.build(32, nnx.Rngs(0), layer_index=0, depth=2)
    time = nnx.softplus(slower.time_bias[...])
    assert 0.499 < jnp.min(time) < jnp.max(time) < 2.001
    for name, value in (
        ("skip", 1),
        ("key_bias", 1),
        ("query_bias", 1),
        ("mimo_value", 0.5),
        ("mimo_gate", 1),
        ("mimo_read", 0.5),
    ):
        np.testing.assert_array_equal(getattr(layer, name)[...], value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"expand": 0}, "expand is 0; give a number above 0"),
        ({"head_size": 0}, "head_size is 0; give a number above 0"),
        ({"state_size": -1}, "state_size is -1; give a number above 0"),
        ({"num_groups": 0}, "num_groups is 0; give a number above 0"),
        ({"rank": 0}, "rank is 0; give a number above 0"),
        ({"least_rate": 0.0}, "least_rate is 0.0; give a number above 0"),
        ({"norm_epsilon": 0.0}, "norm_epsilon is 0.0; give a number above 0"),
        ({"rotary_fraction": 0.0}, "rotary_fraction is 0.0; give a number above 0, at"),
        ({"rotary_fraction": 1.5}, "rotary_fraction is 1.5; give a number above 0, at"),
        ({"initial_time": (0.1, 0.01)}, r"initial_time is \(0.1, 0.01\); give two num"),
        ({"initial_time": (0.0, 0.01)}, r"initial_time is \(0.0, 0.01\); give two num"),
        ({"state_size": 3}, "0.5 of state_size 3 holds no pair of channels; give more"),
    ],
)
def test_senseless_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Mamba3Config(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head_size": 5}, "head_size 5 does not divide the inner width 16"),
        ({"head_size": 4, "num_groups": 3}, "num_groups 3 does not divide the 4 heads"),
    ],
)
def test_sizes_that_do_not_fit_the_width_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Mamba3Config(**options).build(8, nnx.Rngs(0), layer_index=0, depth=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"rank": 2}, {"num_groups": 2, "output_gate": False}], ids=str
)
def test_variants_obey_the_laws(options):
    check_layer(Mamba3Config(head_size=4, state_size=5, **options), width=8)
