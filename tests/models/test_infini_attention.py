"""Infini-attention without its memory, and with segments of one token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.infini_attention import InfiniAttentionConfig
from memzoo.models.streams import streams_of

WIDTH, TIME, SEGMENT = 8, 11, 4


def outputs(share, **fields):
    """Return outputs, and queries, keys and values of one row, `t h k`."""
    config = InfiniAttentionConfig(num_heads=2, rotary_base=None, **fields)
    layer = config.build(WIDTH, nnx.Rngs(0), layer_index=0, depth=2)
    layer.memory_share[...] = jnp.full((2,), share)
    # The output projection is the identity.
    nnx.update(layer.read_out.projection, {"kernel": jnp.eye(WIDTH)})
    x = jax.random.normal(jax.random.key(0), (1, TIME, WIDTH))
    y = jax.jit(lambda x: layer(x, layer.init_state(1, 0))[0])(x)
    heads = (np.asarray(stream.heads(x))[0] for stream in streams_of(layer))
    return np.asarray(y).reshape(TIME, 2, 4), *heads


def test_without_its_memory_it_is_attention_within_segments():
    y, q, k, v = outputs(-40.0, segment_size=SEGMENT)
    for t, h in np.ndindex(TIME, 2):
        seen = slice(t - t % SEGMENT, t + 1)
        weight = np.exp(k[seen, h] @ q[t, h] / 2)
        expected = weight @ v[seen, h] / weight.sum()
        np.testing.assert_allclose(y[t, h], expected, rtol=1e-4, atol=1e-5)


def test_a_sum_over_segments_of_one_token_is_linear_attention_of_the_past():
    y, q, k, v = outputs(40.0, segment_size=1, write="sum")
    q, k = (np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))) for x in (q, k))
    for t, h in np.ndindex(TIME, 2):
        weight = k[:t, h] @ q[t, h]
        expected = weight @ v[:t, h] / (weight.sum() + 1e-6)
        np.testing.assert_allclose(y[t, h], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"segment_size": 0}, "segment_size is 0; give a number above 0"),
        ({"key_value_heads": 1}, "key_value_heads is 1, but infini_attention has a"),
        ({"persistent_tokens": 2}, "persistent_tokens is 2, but infini_attention has"),
    ],
)
def test_what_cannot_work_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        InfiniAttentionConfig(**fields)
