"""Associative Recurrent Memory Transformer against its equations in numpy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.armt import ARMTConfig
from memzoo.models.attention import AttentionConfig
from memzoo.models.gated_short_convolution import GatedShortConvolutionConfig
from memzoo.models.rmt import RMTConfig
from memzoo.models.segment_association import SegmentAssociation

SEGMENT, MEMORY, DEPTH = 4, 2, 2
FIELDS: dict[str, Any] = {
    "layers": (AttentionConfig(num_heads=2),) * DEPTH,
    "segment_size": SEGMENT,
    "memory_tokens": MEMORY,
}


def features(x):
    r = np.concatenate([np.maximum(x, 0), np.maximum(-x, 0)])
    n = len(r)
    phi = [r[i] * r[(i - j) % n] for j in (1, 2, 3) for i in range(n)]
    return np.asarray(phi) / np.sqrt(np.sum(np.square(phi)) + 1e-6)


def test_the_equations_by_hand(subject, segments, assert_loop, plain):
    def loop(params, x):
        inner, outputs = segments(params, DEPTH), []
        memory = params["initial_memory"]
        held = [np.zeros((24, x.shape[1])) for _ in range(DEPTH)]
        for start in range(0, len(x), SEGMENT):
            part = x[start : start + SEGMENT]
            h = np.concatenate([memory, part, memory])
            for index in range(DEPTH):
                path = f"associations/{index}"
                maps = {
                    name: params[f"{path}/{name}/kernel"]
                    for name in ("query", "key", "value", "write_strength")
                }
                reads = [features(each @ maps["query"]) @ held[index] for each in h]
                h = inner.block(h + np.stack(reads), index)
                for m in h[-MEMORY:] if len(part) == SEGMENT else ():
                    key = features(m @ maps["key"])
                    bias = params[f"{path}/write_strength/bias"]
                    beta = plain.sigmoid(m @ maps["write_strength"] + bias)
                    error = m @ maps["value"] - key @ held[index]
                    held[index] = held[index] + beta * np.outer(key, error)
            outputs.append(h[MEMORY : MEMORY + len(part)] - part)
            if len(part) == SEGMENT:
                memory = inner.norm(h[-MEMORY:])
        return np.concatenate(outputs), memory

    assert_loop(subject(ARMTConfig(**FIELDS, key_size=4)), loop, rtol=5e-5)


def test_without_associations_it_is_rmt():
    """A new layer stores zeros; its other parameters are those of an RMT."""
    x = np.random.default_rng(0).standard_normal((2, 11, 8)).astype(np.float32)
    outputs = []
    fields = FIELDS | {"layers": (GatedShortConvolutionConfig(),)}
    for config in (ARMTConfig(**fields, key_size=4), RMTConfig(**fields)):
        layer = config.build(8, nnx.Rngs(0), layer_index=0, depth=2)
        outputs.append(jax.jit(lambda x, layer=layer: layer(x)[0])(x))
    np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-6)


def test_a_write_of_full_strength_is_read_exactly_and_replaces():
    layer = SegmentAssociation(8, 4, nnx.Rngs(0))
    layer.value.kernel[...] = jnp.asarray(np.eye(8), jnp.float32)
    assert layer.write_strength.bias is not None
    layer.write_strength.bias[...] = jnp.full((1,), 50.0)
    rng = np.random.default_rng(0)
    # The last channels are in the value and not in the key.
    layer.key.kernel[...] = layer.key.kernel[...].at[4:].set(0)
    layer.query.kernel[...] = layer.key.kernel[...]
    first = rng.standard_normal((1, 1, 8)).astype(np.float32)
    second = first.copy()
    second[..., 4:] += 1.0
    memory = layer.new_memory(1)
    for token in (first, second):
        memory = layer.written(memory, jnp.asarray(token))
        np.testing.assert_allclose(
            layer.read(memory, jnp.asarray(token)), token, rtol=1e-4, atol=1e-5
        )
    np.testing.assert_allclose(
        layer.read(memory, jnp.asarray(first)), second, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"memory_tokens": 0}, "memory_tokens is 0; give a number above 0"),
        ({"key_size": 0}, "key_size is 0; give a number above 0"),
    ],
)
def test_what_cannot_work_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        ARMTConfig(**fields)
