"""Comba against its equation, and against gated_delta_net where both are equal."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.comba import CombaConfig
from memzoo.models.gated_delta_net import GatedDeltaNetConfig
from memzoo.testing import check_layer


def _loop(plain, config, params, x):
    """S = alpha S, S += beta k (v - S^T sigmoid(c) k)^T, o = S^T q', head by head."""
    heads = config.num_heads
    streams = {}
    for name in ("query", "key", "value"):
        stream = x @ params[f"{name}/kernel"]
        if config.convolution_size:
            kernel = params[f"{name}/convolution/kernel"]
            stream = plain.convolve(stream, kernel)
        streams[name] = plain.silu(stream).reshape(len(x), heads, -1)
    strength = plain.sigmoid(x @ params["write_strength/kernel"])
    time = plain.softplus(x @ params["decay/kernel"] + params["time_bias"])
    alpha = np.exp(-np.exp(params["log_a"]) * time)
    weaker = plain.sigmoid(params["erase_bias"])
    sizes = streams["key"].shape[-1], streams["value"].shape[-1]
    memory, outputs = np.zeros((heads, *sizes)), []
    for t in range(len(x)):
        reads = []
        for h in range(heads):
            key, erase = streams["key"][t, h], weaker[h] * streams["key"][t, h]
            query = streams["query"][t, h] - params["correction"][h] * erase
            memory[h] *= alpha[t, h]
            recalled = memory[h].T @ (weaker[h] * plain.unit(key))
            error = streams["value"][t, h] - recalled
            memory[h] += strength[t, h] * np.outer(plain.unit(key), error)
            read = memory[h].T @ plain.unit(query) / np.sqrt(sizes[0])
            reads.append(plain.rms_norm(read, params["read_out/norm/scale"]))
        read = np.concatenate(reads)
        if config.output_gate:
            read = read * plain.sigmoid(x[t] @ params["read_out/gate/kernel"])
        outputs.append(read @ params["read_out/projection/kernel"])
    return np.stack(outputs), memory


VARIED = {
    "convolution_size": 0,
    "head_size": 3,
    "value_ratio": 1,
    "output_gate": False,
    "correction": 0.02,
    "fastest_decay": 1.0,
}


@pytest.mark.parametrize("options", [{}, VARIED], ids=["published", "varied"])
def test_layer_is_the_published_loop(subject, assert_loop, plain, options):
    config = CombaConfig(num_heads=2, chunk_size=4, **options)
    assert_loop(subject(config), lambda p, x: _loop(plain, config, p, x))


def test_equal_keys_and_no_correction_are_gated_delta_net(subject):
    layer, _, x = subject(CombaConfig(num_heads=2, output_gate=False))
    config = GatedDeltaNetConfig(num_heads=2, output_gate=False)
    plain = config.build(8, nnx.Rngs(1), layer_index=0, depth=2)
    layer.erase_bias.set_value(jnp.full((2,), 40.0))
    layer.correction.set_value(jnp.zeros((2,)))
    mine = dict(nnx.to_flat_state(nnx.state(layer, nnx.Param)))
    shared = {
        path: value
        for path, value in mine.items()
        if path[0] not in ("erase_bias", "correction")
    }
    nnx.update(plain, nnx.from_flat_state(list(shared.items())))
    found, wanted = (each(x, each.init_state(2, 0))[0] for each in (layer, plain))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


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
        CombaConfig(**options)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"convolution_size": 0}, {"output_gate": False}], ids=str
)
def test_variants_obey_the_laws(options):
    check_layer(CombaConfig(num_heads=2, **options), width=8)
