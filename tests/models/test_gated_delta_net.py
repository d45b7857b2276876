"""Gated DeltaNet against its equation, token by token."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.delta_net import DeltaNetConfig
from memzoo.models.gated_delta_net import GatedDeltaNetConfig
from memzoo.models.interface import SequenceInfo
from memzoo.testing import check_layer


def _streams(plain, config, params, x, names):
    """Return projected, convolved and activated x, as tokens by heads by sizes."""
    streams = {}
    for name in names:
        stream = x @ params[f"{name}/kernel"]
        if config.convolution_size:
            stream = plain.convolve(stream, params[f"{name}/convolution/kernel"])
        values = config.value_heads or config.num_heads
        count = values if name.endswith("value") else config.num_heads
        stream = plain.silu(stream).reshape(len(x), count, -1)
        streams[name.removeprefix("encoder/")] = stream
    return streams


def _loop(plain, config, params, x, prefix_length=0):
    """S = alpha S, S += beta k (v - S^T k)^T, o = S^T q / sqrt(k), head by head."""
    heads, value_heads = config.num_heads, config.value_heads or config.num_heads
    names = ("query", "key", "value")
    streams = _streams(plain, config, params, x, names)
    strength = plain.sigmoid(x @ params["write_strength/kernel"])
    if config.negative_eigenvalues:
        strength = 2 * strength
    time = plain.softplus(x @ params["decay/kernel"] + params["time_bias"])
    alpha = np.exp(-np.exp(params["log_a"]) * time)
    sizes = streams["key"].shape[-1], streams["value"].shape[-1]
    memory, outputs = np.zeros((value_heads, *sizes)), []

    def write(streams, t, h):
        key, step = streams["key"][t, h // (value_heads // heads)], strength[t, h]
        if config.step_size == "gate":
            key = plain.unit(key)
        else:
            step = step / (key @ key + 1e-6)
        memory[h] *= alpha[t, h]
        error = streams["value"][t, h] - memory[h].T @ key
        memory[h] += step * np.outer(key, error)

    for t in range(prefix_length):
        ahead = _streams(plain, config, params, x, ("encoder/key", "encoder/value"))
        for h in range(value_heads):
            write(ahead, t, h)
    for t in range(len(x)):
        reads = []
        for h in range(value_heads):
            # Neighbouring value heads share a query and a key.
            query = plain.unit(streams["query"][t, h // (value_heads // heads)])
            write(streams, t, h)
            read = memory[h].T @ query / np.sqrt(sizes[0])
            scale = params["read_out/norm/scale"]
            reads.append(plain.rms_norm(read, scale, config.norm_epsilon))
        read = np.concatenate(reads)
        if config.output_gate:
            read = read * plain.silu(x[t] @ params["read_out/gate/kernel"])
        outputs.append(read @ params["read_out/projection/kernel"])
    return np.stack(outputs), memory


VARIED = {
    "convolution_size": 0,
    "negative_eigenvalues": True,
    "head_size": 3,
    "value_heads": 4,
    "value_ratio": 1,
    "output_gate": False,
    "fastest_decay": 1.0,
}


@pytest.mark.parametrize(
    "options",
    [{}, VARIED | {"step_size": "kaczmarz"}],
    ids=["published", "varied"],
)
def test_layer_is_the_published_loop(subject, assert_loop, plain, options):
    config = GatedDeltaNetConfig(num_heads=2, chunk_size=4, **options)
    assert_loop(subject(config), lambda p, x: _loop(plain, config, p, x))


def test_the_norm_has_the_epsilon_of_the_config(subject, assert_loop, plain):
    """Reads of small inputs are as small as the epsilon."""
    config = GatedDeltaNetConfig(num_heads=2, chunk_size=4, norm_epsilon=1e-6)
    small = subject(config)
    small = small._replace(x=0.03 * small.x)
    assert_loop(small, lambda p, x: _loop(plain, config, p, x), rtol=1e-4)
    other = dataclasses.replace(config, norm_epsilon=1e-5)
    row = np.asarray(small.x[0], np.float64)
    near, far = (_loop(plain, c, small.params, row)[0] for c in (config, other))
    assert np.max(np.abs(near - far)) > 0.1 * np.max(np.abs(near))


@pytest.mark.parametrize("options", [{}, VARIED], ids=["published", "varied"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_prefix_is_written_first(subject, plain, options, packed):
    config = GatedDeltaNetConfig(num_heads=2, chunk_size=4, prefix=True, **options)
    layer, params, x = subject(config)
    reset = jnp.zeros(x.shape[:2], bool) if packed else None
    run = jax.jit(lambda x, s, p: layer(x, s, SequenceInfo(reset=reset, prefix=p)))
    lengths = (4, x.shape[1])
    prefix = jnp.arange(x.shape[1])[None, :] < jnp.array(lengths)[:, None]
    y, state = run(x, layer.init_state(2, 0), prefix)
    for row, length in enumerate(lengths):
        row_of_x = np.asarray(x[row], np.float64)
        wanted, memory = _loop(plain, config, params, row_of_x, length)
        scale = np.max(np.abs(wanted))
        np.testing.assert_allclose(y[row], wanted, rtol=1e-4, atol=1e-4 * scale)
        np.testing.assert_allclose(state.memory[row], memory, rtol=1e-3, atol=1e-4)


def test_a_layer_without_the_option_refuses_a_prefix(subject):
    layer, _, x = subject(GatedDeltaNetConfig(num_heads=2))
    prefix = jnp.ones(x.shape[:2], bool)
    with pytest.raises(ValueError, match="GatedDeltaNet does not accept a prefix"):
        layer(x, layer.init_state(2, 0), SequenceInfo(prefix=prefix))


def test_a_decay_of_one_is_delta_net(subject):
    options = {"num_heads": 2, "negative_eigenvalues": True}
    config = GatedDeltaNetConfig(**options, output_gate=False, value_ratio=1)
    layer, _, x = subject(config)
    layer.log_a.set_value(jnp.full((2,), -jnp.inf))
    plain = DeltaNetConfig(**options).build(8, nnx.Rngs(1), layer_index=0, depth=2)
    shared = {
        path: value
        for path, value in nnx.to_flat_state(nnx.state(layer, nnx.Param))
        if path[0] not in ("decay", "log_a", "time_bias")
    }
    nnx.update(plain, nnx.from_flat_state(list(shared.items())))
    found, wanted = (
        jax.jit(lambda x, s, layer=each: layer(x, s)[0])(x, each.init_state(2, 0))
        for each in (layer, plain)
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_parameters_by_formula(subject):
    _, params, _ = subject(GatedDeltaNetConfig(num_heads=2))
    width, heads, taps = 8, 2, 4
    projections = 2 * width**2 + 3 * width * 2 * width
    convolutions = taps * 4 * width
    gates = 2 * width * heads + 2 * heads
    norm = 2 * width // heads
    assert sum(p.size for p in params.values()) == (
        projections + convolutions + gates + norm
    )


@pytest.mark.parametrize("fastest", [16.0, 1.0])
def test_decays_start_as_published(fastest):
    config = GatedDeltaNetConfig(num_heads=64, head_size=1, fastest_decay=fastest)
    layer = config.build(2, nnx.Rngs(0), layer_index=0, depth=2)
    a = jnp.exp(layer.log_a[...])
    assert 0 < jnp.min(a) < 0.2 * fastest
    assert 0.8 * fastest < jnp.max(a) <= fastest
    time = nnx.softplus(layer.time_bias[...])
    assert 0.999e-3 < jnp.min(time) < jnp.max(time) < 0.1001


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convolution_size": 1}, "convolution_size is 1"),
        ({"num_heads": 0, "value_heads": 2}, "num_heads is 0; give a number above 0"),
        ({"value_ratio": 0}, "value_ratio is 0; give a number above 0"),
        ({"norm_epsilon": 0.0}, "norm_epsilon is 0.0; give a number above 0"),
        ({"fastest_decay": 0.0}, "fastest_decay is 0.0; give a number above 0"),
        ({"fastest_decay": float("inf")}, "fastest_decay is inf; give a finite"),
        ({"value_heads": 6}, "value_heads 6 is not a multiple of num_heads 4"),
        ({"step_size": "kaczmarz", "prefix": True}, "kaczmarz does not write a prefix"),
        ({"value_heads": 0}, "value_heads 0 is not a multiple of num_heads 4"),
    ],
)
def test_senseless_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GatedDeltaNetConfig(**options)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"value_heads": 4},
        {"negative_eigenvalues": True},
        {"convolution_size": 0},
        {"output_gate": False, "value_ratio": 1},
        {"prefix": True, "value_heads": 4},
    ],
    ids=str,
)
def test_variants_obey_the_laws(options):
    check_layer(GatedDeltaNetConfig(num_heads=2, **options), width=8)
