"""Memory caching against loops over the layer that it caches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.attention import AttentionConfig
from memzoo.models.gated_delta_net import GatedDeltaNetConfig
from memzoo.models.interface import Layout, SequenceInfo, state_bytes
from memzoo.models.kda import KDAConfig
from memzoo.models.linear_attention import LinearAttentionConfig
from memzoo.models.memory_caching import MemoryCachingConfig
from memzoo.models.titans_lmm import TitansLMMConfig
from memzoo.testing import check_layer

GATED = GatedDeltaNetConfig(num_heads=2, convolution_size=0, chunk_size=4)
SIZE = 4


def _loop(plain, layer, params, x):
    """Read the memories after whole segments, from the plain layer on each prefix."""
    member, config, time = layer.memory, layer.config, x.shape[1]
    inputs, _ = member.inputs(x, member.init_state(2, 0), Layout())
    query = np.asarray(inputs.query, np.float64)
    run = jax.jit(lambda valid: member(x, None, SequenceInfo(valid=valid))[1].memory)
    index = np.broadcast_to(np.arange(time), (2, time))

    def memory(start, end):
        return np.asarray(run((index >= start) & (index < end)), np.float64)

    def beginning(segment):
        return segment * SIZE if config.start == "initial" else 0

    ends = range(time // SIZE)
    cached = [memory(beginning(i), (i + 1) * SIZE) for i in ends]
    read = np.zeros(np.shape(inputs.tokens.value))
    wide = np.asarray(x, np.float64)
    for row, t in np.ndindex(2, time):
        segment = t // SIZE
        now = memory(beginning(segment), t + 1)
        memories = [*(each[row] for each in cached[:segment]), now[row]]
        means = [wide[row, i * SIZE : (i + 1) * SIZE].mean(0) for i in range(segment)]
        means.append(wide[row, segment * SIZE : t + 1].mean(0))
        weight = np.ones(segment + 1)
        if config.gate != "residual":
            score = np.stack(means) @ (wide[row, t] @ params["score/kernel"])
            if config.gate == "sparse" and segment > config.top_k:
                score[np.argsort(-score[:-1])[config.top_k :]] = -np.inf
            weight = plain.softmax(score)
        for w, each in zip(weight, memories, strict=True):
            read[row, t] += w * np.einsum("hk,hkv->hv", query[row, t], each)
    return member.finish(jnp.asarray(read, jnp.float32), inputs, x)


@pytest.mark.parametrize(
    "options",
    [{}, {"gate": "sparse", "top_k": 1, "start": "initial"}],
    ids=["softmax", "sparse"],
)
def test_layer_is_the_published_sum(subject, plain, options):
    config = MemoryCachingConfig(memory=GATED, segment_size=SIZE, **options)
    layer, params, x = subject(config)
    found, _ = jax.jit(lambda x: layer(x))(x)
    wanted = _loop(plain, layer, params, x)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_on_the_current_memory_alone_it_is_the_member(subject):
    config = MemoryCachingConfig(
        memory=KDAConfig(num_heads=2, chunk_size=4),
        segment_size=SIZE,
        gate="sparse",
        top_k=0,
    )
    layer, _, x = subject(config)
    found, state = jax.jit(lambda x: layer(x))(x)
    wanted, last = jax.jit(lambda x: layer.memory(x))(x)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.memory, last.memory, rtol=1e-5, atol=1e-6)


def test_the_sum_of_separate_segments_is_linear_attention(subject):
    member = LinearAttentionConfig(num_heads=2, normaliser=False, chunk_size=4)
    config = MemoryCachingConfig(
        memory=member, segment_size=SIZE, gate="residual", start="initial"
    )
    layer, _, x = subject(config)
    assert layer.score is None
    found, _ = jax.jit(lambda x: layer(x))(x)
    wanted, _ = jax.jit(lambda x: layer.memory(x))(x)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_the_state_grows_by_one_memory_a_segment_or_is_a_ring():
    def build(**options):
        config = MemoryCachingConfig(memory=GATED, segment_size=SIZE, **options)
        return config.build(8, nnx.Rngs(0), layer_index=0, depth=1)

    layer = build()
    one = 4 * (2 * 4 * 8 + 8)
    assert state_bytes(layer, 41) - state_bytes(layer, 40) == one
    assert state_bytes(layer, 44) == state_bytes(layer, 41)
    assert layer.capacity(layer.init_state(1, 41)) == 44
    ring = build(cache_size=3)
    assert state_bytes(ring, 1) == state_bytes(ring, 10**6)
    assert ring.capacity(ring.init_state(1, 1)) is None
    assert ring.state_growth == "bounded"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"segment_size": 0}, "segment_size is 0; give a number above 0"),
        ({"cache_size": 0}, "cache_size is 0; give 1 or more, or None for all"),
        ({"top_k": -1}, "top_k is -1; give 0 or more"),
        ({"gate": "none"}, "gate is 'none'; choose one of softmax, sparse, residual"),
        ({"start": "none"}, "start is 'none'; choose one of continue, initial"),
        ({"memory": GatedDeltaNetConfig}, "memory is .*; give a layer config"),
    ],
)
def test_senseless_configs_are_refused(fields, message):
    config = MemoryCachingConfig()
    for name, value in fields.items():
        # The field's type refuses other words before the check does.
        object.__setattr__(config, name, value)
    with pytest.raises(ValueError, match=message):
        config.__post_init__()


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        (AttentionConfig(num_heads=2), "memory is Attention, not an AssociativeMemory"),
        (
            GatedDeltaNetConfig(num_heads=2, prefix=True),
            "memory is GatedDeltaNet with a prefix, .*; set prefix to False or choose",
        ),
    ],
)
def test_layers_without_a_memory_are_refused(memory, message):
    config = MemoryCachingConfig(memory=memory)
    with pytest.raises(ValueError, match=message):
        config.build(8, nnx.Rngs(0), layer_index=0, depth=1)


NETWORK = TitansLMMConfig(num_heads=2, update_every=4, chunk_size=8, memory_depth=1)
RING = {"cache_size": 2, "gate": "sparse", "top_k": 1, "start": "initial"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        RING,
        {"memory": NETWORK},
        {"memory": KDAConfig(num_heads=2, chunk_size=8), "gate": "residual"},
    ],
    ids=["ring", "titans_lmm", "kda"],
)
def test_variants_obey_the_laws(options):
    base = {"memory": GATED, "segment_size": SIZE}
    check_layer(MemoryCachingConfig(**(base | options)), width=8)
