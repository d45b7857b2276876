"""Mamba-2's state space layer against its equation, token by token."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.mamba2 import Mamba2Config
from memzoo.testing import check_layer


def _loop(plain, config, params, x):
    """h = exp(dt A) h + dt B x^T, y = h^T C + D x, head by head; then gate, norm."""
    heads, groups = len(params["log_a"]), config.num_groups
    names = ("value", "key", "query")
    streams = np.concatenate(
        [x @ params[f"{n}/kernel"] + params.get(f"{n}/bias", 0) for n in names], axis=-1
    )
    if config.convolution_size:
        kernel, bias = (
            np.concatenate([params[f"{n}/convolution/{part}"] for n in names], axis=-1)
            if f"key/convolution/{part}" in params
            else 0.0
            for part in ("kernel", "bias")
        )
        streams = plain.convolve(streams, kernel, bias)
    inner, shared = heads * config.head_size, groups * config.state_size
    value, b, c = np.split(plain.silu(streams), [inner, inner + shared], axis=-1)
    value = value.reshape(len(x), heads, -1)
    b, c = b.reshape(len(x), groups, -1), c.reshape(len(x), groups, -1)
    time = plain.softplus(x @ params["time/kernel"] + params["time_bias"])
    time = np.clip(time, config.shortest_time, config.longest_time)
    rate = -np.exp(params["log_a"])
    memory = np.zeros((heads, config.state_size, config.head_size))
    outputs = []
    for t in range(len(x)):
        reads = []
        for h in range(heads):
            group, dt = h // (heads // groups), time[t, h]
            write = dt * np.outer(b[t, group], value[t, h])
            memory[h] = np.exp(dt * rate[h]) * memory[h] + write
            reads.append(memory[h].T @ c[t, group] + params["skip"][h] * value[t, h])
        read = np.concatenate(reads)
        if config.output_gate:
            gate = x[t] @ params["read_out/gate/kernel"]
            gate = gate + params.get("read_out/gate/bias", 0)
            read = read * plain.silu(gate)
        parts = np.split(read, groups)
        scales = np.split(params["read_out/norm/scale"], groups)
        normed = [
            plain.rms_norm(*part, config.norm_epsilon)
            for part in zip(parts, scales, strict=True)
        ]
        last = np.concatenate(normed) @ params["read_out/projection/kernel"]
        outputs.append(last + params.get("read_out/projection/bias", 0))
    return np.stack(outputs), memory


@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "num_groups": 2,
            "expand": 1,
            "head_size": 2,
            "convolution_size": 0,
            "output_gate": False,
        },
        {
            "bias": True,
            "convolution_bias": False,
            "shortest_time": 0.03,
            "longest_time": 0.1,
            "norm_epsilon": 0.01,
        },
    ],
    ids=["published", "groups", "as in others' checkpoints"],
)
def test_layer_is_the_published_loop(subject, assert_loop, plain, options):
    options = {"head_size": 4, "state_size": 5, "chunk_size": 4} | options
    config = Mamba2Config(**options)
    assert_loop(subject(config), lambda p, x: _loop(plain, config, p, x))


def test_parameters_by_formula(subject):
    _, params, _ = subject(Mamba2Config(head_size=4, state_size=5))
    width, inner, heads, shared, taps = 8, 16, 4, 5, 4
    projected = 2 * inner + 2 * shared + heads
    convolved = inner + 2 * shared
    assert sum(p.size for p in params.values()) == (
        width * projected + (taps + 1) * convolved + 3 * heads + inner + inner * width
    )


def test_a_time_step_is_clamped_on_both_sides(subject, plain):
    """Check that steps in the loop above reach both limits."""
    _, params, x = subject(Mamba2Config(head_size=4, state_size=5, bias=True))
    time = plain.softplus(
        np.asarray(x, np.float64) @ params["time/kernel"] + params["time_bias"]
    )
    assert time.min() < 0.03 and time.max() > 0.1


def test_decays_start_as_published():
    config = Mamba2Config(head_size=1, state_size=1)
    layer = config.build(32, nnx.Rngs(0), layer_index=0, depth=2)
    a = jnp.exp(layer.log_a[...])
    assert 0.999 < jnp.min(a) < 3
    assert 14 < jnp.max(a) < 16.001
    config = Mamba2Config(head_size=1, state_size=1, fastest_decay=0.1)
    slower = config.build(32, nnx.Rngs(0), layer_index=0, depth=2)
    np.testing.assert_allclose(jnp.exp(slower.log_a[...]), a / 160, rtol=1e-5)
    time = nnx.softplus(layer.time_bias[...])
    assert 0.999e-3 < jnp.min(time) < jnp.max(time) < 0.1001
    np.testing.assert_array_equal(layer.skip[...], np.ones(64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convolution_size": 1}, "convolution_size is 1"),
        ({"expand": 0}, "expand is 0; give a number above 0"),
        ({"head_size": 0}, "head_size is 0; give a number above 0"),
        ({"state_size": -1}, "state_size is -1; give a number above 0"),
        ({"num_groups": 0}, "num_groups is 0; give a number above 0"),
        ({"fastest_decay": 0.0}, "fastest_decay is 0.0; give a number above 0"),
        ({"shortest_time": -1.0}, "shortest_time is -1.0 and longest_time is None; g"),
        ({"shortest_time": 0.1, "longest_time": 0.1}, "longest_time is 0.1; give 0"),
        ({"norm_epsilon": 0.0}, "norm_epsilon is 0.0; give a number above 0"),
    ],
)
def test_senseless_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Mamba2Config(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head_size": 5}, "head_size 5 does not divide the inner width 16"),
        ({"head_size": 4, "num_groups": 3}, "num_groups 3 does not divide the 4 heads"),
    ],
)
def test_sizes_that_do_not_fit_the_width_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Mamba2Config(**options).build(8, nnx.Rngs(0), layer_index=0, depth=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"num_groups": 2}, {"convolution_size": 0}], ids=str
)
def test_variants_obey_the_laws(options):
    check_layer(Mamba2Config(head_size=4, state_size=5, **options), width=8)
