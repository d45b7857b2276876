"""HGRN2 against its equation, token by token."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.hgrn2 import HGRN2Config
from memzoo.testing import check_layer


def _loop(plain, config, params, x):
    """S = diag(alpha) S + (1 - alpha) v^T and o = S^T silu(q) / sqrt(k)."""
    heads = config.num_heads
    streams = {}
    for name in ("query", "key", "value"):
        stream = x @ params[f"{name}/kernel"]
        if config.convolution_size:
            kernel = params[f"{name}/convolution/kernel"]
            stream = plain.convolve(stream, kernel)
        streams[name] = stream
    gamma = plain.sigmoid(params["lower_bound"]) if config.lower_bound else 0.0
    alpha = gamma + (1 - gamma) * plain.sigmoid(streams["key"])
    query, alpha, value = (
        stream.reshape(len(x), heads, -1)
        for stream in (plain.silu(streams["query"]), alpha, streams["value"])
    )
    sizes = query.shape[-1], value.shape[-1]
    memory, outputs = np.zeros((heads, *sizes)), []
    for t in range(len(x)):
        reads = []
        for h in range(heads):
            memory[h] = alpha[t, h][:, None] * memory[h]
            memory[h] += np.outer(1 - alpha[t, h], value[t, h])
            reads.append(memory[h].T @ query[t, h] / np.sqrt(sizes[0]))
        read = plain.rms_norm(np.concatenate(reads), params["read_out/norm/scale"])
        outputs.append(read @ params["read_out/projection/kernel"])
    return np.stack(outputs), memory


VARIED = {"convolution_size": 3, "head_size": 3, "lower_bound": False}


@pytest.mark.parametrize("options", [{}, VARIED], ids=["published", "varied"])
def test_layer_is_the_published_loop(subject, assert_loop, plain, options):
    config = HGRN2Config(num_heads=2, chunk_size=4, **options)
    assert_loop(subject(config), lambda p, x: _loop(plain, config, p, x))


def test_lower_bounds_begin_higher_in_later_layers():
    def bounds(index):
        config = HGRN2Config(num_heads=2)
        layer = config.build(8, nnx.Rngs(0), layer_index=index, depth=4)
        return nnx.sigmoid(layer.lower_bound[...])

    for index, wanted in enumerate((0.01, 0.25, 0.5, 0.75)):
        np.testing.assert_allclose(bounds(jnp.int32(index)), wanted, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"convolution_size": 4}, {"lower_bound": False}], ids=str
)
def test_variants_obey_the_laws(options):
    check_layer(HGRN2Config(num_heads=2, **options), width=8)
