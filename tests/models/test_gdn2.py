"""Gated DeltaNet-2 against its equation, and against kda where its gates are equal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.gdn2 import GDN2Config
from memzoo.models.kda import KDAConfig
from memzoo.testing import check_layer


def _loop(plain, config, params, x):
    """S = (I - k (b * k)^T) diag(alpha) S + k (w * v)^T and o = S^T q / sqrt(k)."""
    heads = config.num_heads

    def split(stream):
        return stream.reshape(len(x), heads, -1)

    streams = {}
    for name in ("query", "key", "value"):
        kernel = params[f"{name}/convolution/kernel"]
        stream = plain.convolve(x @ params[f"{name}/kernel"], kernel)
        streams[name] = split(plain.silu(stream))
    erase = split(plain.sigmoid(x @ params["erase/kernel"]))
    erase = 2 * erase if config.negative_eigenvalues else erase
    write = split(plain.sigmoid(x @ params["write_strength/kernel"]))
    time = x @ params["decay/time/down/kernel"] @ params["decay/time/up/kernel"]
    time = split(plain.softplus(time + params["decay/time_bias"]))
    alpha = np.exp(-np.exp(params["decay/log_a"])[None, :, None] * time)
    size, value_size = streams["key"].shape[-1], streams["value"].shape[-1]
    memory, outputs = np.zeros((heads, size, value_size)), []
    for t in range(len(x)):
        reads = []
        for h in range(heads):
            query, key = (plain.unit(streams[n][t, h]) for n in ("query", "key"))
            factor = np.eye(size) - np.outer(key, erase[t, h] * key)
            memory[h] = factor @ np.diag(alpha[t, h]) @ memory[h]
            memory[h] += np.outer(key, write[t, h] * streams["value"][t, h])
            read = memory[h].T @ query / np.sqrt(size)
            reads.append(plain.rms_norm(read, params["read_out/norm/scale"]))
        gate = (
            x[t]
            @ params["read_out/gate/down/kernel"]
            @ params["read_out/gate/up/kernel"]
        )
        read = np.concatenate(reads) * plain.sigmoid(
            gate + params["read_out/gate/up/bias"]
        )
        outputs.append(read @ params["read_out/projection/kernel"])
    return np.stack(outputs), memory


@pytest.mark.parametrize(
    "options", [{}, {"negative_eigenvalues": True, "value_ratio": 2}], ids=str
)
def test_layer_is_the_published_loop(subject, assert_loop, plain, options):
    config = GDN2Config(num_heads=2, chunk_size=4, **options)
    assert_loop(subject(config), lambda p, x: _loop(plain, config, p, x))


def test_equal_gates_are_kda(subject):
    layer, _, x = subject(GDN2Config(num_heads=2))
    plain = KDAConfig(num_heads=2).build(8, nnx.Rngs(1), layer_index=0, depth=2)
    mine = dict(nnx.to_flat_state(nnx.state(layer, nnx.Param)))
    strengths = jax.random.normal(jax.random.key(0), (8, 2))
    mine["write_strength", "kernel"].set_value(strengths)
    erase = mine.pop(("erase", "kernel"))
    nnx.update(plain, nnx.from_flat_state(list(mine.items())))
    wide = jnp.repeat(strengths, 4, axis=1)
    layer.erase.kernel.set_value(wide)
    layer.write_strength.kernel.set_value(wide)
    assert erase.get_value().shape == wide.shape
    found, wanted = (each(x, each.init_state(2, 0))[0] for each in (layer, plain))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_variants_obey_the_laws():
    config = GDN2Config(num_heads=2, negative_eigenvalues=True, convolution_size=0)
    check_layer(config, width=8)
