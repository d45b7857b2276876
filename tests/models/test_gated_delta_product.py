"""Gated DeltaProduct against its equation, and against the layers of one write."""

import jax
import numpy as np
import pytest
from flax import nnx

from memzoo.models.delta_net import DeltaNetConfig
from memzoo.models.gated_delta_net import GatedDeltaNetConfig
from memzoo.models.gated_delta_product import GatedDeltaProductConfig
from memzoo.models.mixture_of_memories import MixtureOfMemoriesConfig
from memzoo.testing import check_layer


def _loop(plain, config, params, x):
    """S = alpha S, then S = (I - beta k k^T) S + beta k v^T for each write."""
    heads, writes = config.num_heads, config.num_householder
    streams = {}
    for name in ("query", "key", "value"):
        stream = x @ params[f"{name}/kernel"]
        if config.convolution_size:
            kernel = params[f"{name}/convolution/kernel"]
            stream = plain.convolve(stream, kernel)
        count = heads if name == "query" else heads * writes
        streams[name] = plain.silu(stream).reshape(len(x), count, -1)
    strength = plain.sigmoid(x @ params["write_strength/kernel"])
    if config.negative_eigenvalues:
        strength = 2 * strength
    alpha = np.ones((len(x), heads))
    if config.forget_gate:
        time = x @ params["decay/kernel"] + params["decay/time_bias"]
        alpha = np.exp(-np.exp(params["decay/log_a"]) * plain.softplus(time))
    sizes = streams["key"].shape[-1], streams["value"].shape[-1]
    memory, outputs = np.zeros((heads, *sizes)), []
    for t in range(len(x)):
        reads = []
        for h in range(heads):
            memory[h] *= alpha[t, h]
            for j in range(writes):
                at = t, j * heads + h
                key = plain.unit(streams["key"][at])
                reflection = np.eye(sizes[0]) - strength[at] * np.outer(key, key)
                written = strength[at] * np.outer(key, streams["value"][at])
                memory[h] = reflection @ memory[h] + written
            read = memory[h].T @ plain.unit(streams["query"][t, h]) / np.sqrt(sizes[0])
            reads.append(plain.rms_norm(read, params["read_out/norm/scale"]))
        read = np.concatenate(reads)
        if config.output_gate:
            read = read * plain.silu(x[t] @ params["read_out/gate/kernel"])
        outputs.append(read @ params["read_out/projection/kernel"])
    return np.stack(outputs), memory


VARIED = {
    "num_householder": 3,
    "convolution_size": 0,
    "forget_gate": False,
    "negative_eigenvalues": False,
    "head_size": 3,
    "value_ratio": 1,
    "output_gate": False,
}


@pytest.mark.parametrize("options", [{}, VARIED], ids=["published", "varied"])
def test_layer_is_the_published_loop(subject, assert_loop, plain, options):
    config = GatedDeltaProductConfig(num_heads=2, chunk_size=4, **options)
    assert_loop(subject(config), lambda p, x: _loop(plain, config, p, x))


@pytest.mark.parametrize("forget_gate", [True, False])
def test_one_write_is_gated_delta_net_or_delta_net(subject, forget_gate):
    common = {"num_heads": 2, "negative_eigenvalues": True}
    config = GatedDeltaProductConfig(
        **common,
        num_householder=1,
        forget_gate=forget_gate,
        output_gate=forget_gate,
        value_ratio=1,
    )
    layer, _, x = subject(config)
    other = DeltaNetConfig(**common)
    if forget_gate:
        other = GatedDeltaNetConfig(**common, value_ratio=1)
    plain = other.build(8, nnx.Rngs(1), layer_index=0, depth=2)
    mine = {
        path[1:] if path[-1] in ("log_a", "time_bias") else path: value
        for path, value in nnx.to_flat_state(nnx.state(layer, nnx.Param))
    }
    assert mine.keys() == dict(nnx.to_flat_state(nnx.state(plain, nnx.Param))).keys()
    nnx.update(plain, nnx.from_flat_state(list(mine.items())))
    found, wanted = (
        jax.jit(lambda x, s, layer=each: layer(x, s)[0])(x, each.init_state(2, 0))
        for each in (layer, plain)
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convolution_size": 1}, "convolution_size is 1"),
        ({"value_ratio": 0}, "value_ratio is 0; give a number above 0"),
        ({"num_householder": 0}, "num_householder is 0; give a number above 0"),
        ({"fastest_decay": 0.0}, "fastest_decay is 0.0; give a number above 0"),
    ],
)
def test_senseless_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GatedDeltaProductConfig(**options)


@pytest.mark.slow
def test_variants_obey_the_laws():
    check_layer(GatedDeltaProductConfig(num_heads=2, **VARIED), width=8)


@pytest.mark.slow
def test_a_mixture_of_it_obeys_the_laws():
    memory = GatedDeltaProductConfig(num_heads=2, chunk_size=4)
    check_layer(MixtureOfMemoriesConfig(memory=memory), width=8)
