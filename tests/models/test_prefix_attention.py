"""Attention over a prefix against the softmax written out, query by query."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.attention import AttentionConfig
from memzoo.models.interface import SequenceInfo
from memzoo.models.prefix_attention import PrefixAttentionConfig
from memzoo.testing import check_layer


def _loop(plain, config, params, x, length):
    """Token t reads s <= t; inside the prefix it reads the whole prefix."""
    streams = [
        (x @ params[f"{name}/kernel"]).reshape(len(x), config.num_heads, -1)
        for name in ("query", "key", "value")
    ]
    query, key, value = streams
    outputs = []
    for t in range(len(x)):
        seen = max(t + 1, length) if t < length else t + 1
        reads = []
        for h in range(config.num_heads):
            turned = plain.rotate(query[t, h], t)
            logits = np.array(
                [turned @ plain.rotate(key[s, h], s) for s in range(seen)]
            )
            weight = plain.softmax(logits / np.sqrt(len(turned)))
            reads.append(weight @ value[:seen, h])
        outputs.append(np.concatenate(reads) @ params["read_out/projection/kernel"])
    return np.stack(outputs)


@pytest.mark.parametrize("slots", [0, 16])
def test_layer_is_the_softmax_over_what_is_seen(subject, plain, slots):
    config = PrefixAttentionConfig(num_heads=2)
    layer, params, x = subject(config)
    run = jax.jit(lambda x, state, prefix: layer(x, state, SequenceInfo(prefix=prefix)))
    for lengths in ((0, 11), (4, 1)):
        prefix = jnp.arange(11)[None, :] < jnp.array(lengths)[:, None]
        y, state = run(x, layer.init_state(2, slots), prefix)
        for row, length in enumerate(lengths):
            wanted = _loop(plain, config, params, np.asarray(x[row]), length)
            np.testing.assert_allclose(y[row], wanted, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(state.position, [11, 11])


def test_without_a_prefix_it_is_attention(subject):
    layer, _, x = subject(PrefixAttentionConfig(num_heads=2))
    causal, _, _ = subject(AttentionConfig(num_heads=2))
    nnx.update(causal, nnx.state(layer, nnx.Param))
    ys = [jax.jit(lambda x, s, m=m: m(x, s)[0])(x, m.init_state(2, 0))
          for m in (layer, causal)]  # fmt: skip
    np.testing.assert_array_equal(*ys)
    assert not causal.accepts_prefix


def test_senseless_configs_are_refused():
    with pytest.raises(ValueError, match="key_value_heads 3 does not divide"):
        PrefixAttentionConfig(key_value_heads=3)


@pytest.mark.slow
def test_variants_obey_the_laws():
    config = PrefixAttentionConfig(num_heads=2, convolution_size=3, key_value_heads=1)
    check_layer(config, width=8)
