"""Log-linear attention as a layer: its weights, its reductions and its state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.attention import AttentionConfig
from memzoo.models.gated_delta_net import GatedDeltaNetConfig
from memzoo.models.gla import GLAConfig
from memzoo.models.interface import Layout, state_bytes, state_spec
from memzoo.models.log_linear_attention import LogLinearAttentionConfig
from memzoo.models.mamba2 import Mamba2Config
from memzoo.testing import check_layer

MEMORIES = {
    "mamba2": Mamba2Config(head_size=4, state_size=4, chunk_size=4),
    "gated_delta_net": GatedDeltaNetConfig(num_heads=2, chunk_size=4),
}


@pytest.mark.parametrize("name", MEMORIES)
def test_with_weights_of_one_it_is_the_memory(subject, name):
    """softplus(log(e - 1)) = 1; then all levels together are the memory's sum."""
    layer, _, x = subject(LogLinearAttentionConfig(memory=MEMORIES[name]))
    weight = layer.level_weight
    weight.scale[...] = jnp.zeros_like(weight.scale[...])
    weight.bias[...] = jnp.full_like(weight.bias[...], np.log(np.e - 1))
    found, state = jax.jit(lambda x: layer(x, max_length=16))(x)
    wanted, last = jax.jit(lambda x: layer.memory(x))(x)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    total = sum(state.buckets)
    np.testing.assert_allclose(total, last.memory, rtol=1e-5, atol=1e-5)


def test_weights_and_reads_by_formula(subject):
    """With one value per level, a row of the matrix of weighted levels in numpy."""
    layer, params, x = subject(LogLinearAttentionConfig(memory=MEMORIES["mamba2"]))
    time, heads = x.shape[1], 4
    raw = np.asarray(x, np.float64) @ params["level_weight/kernel"]
    raw = raw.reshape(2, time, heads, 17) * params["level_weight/scale"]
    weight = np.log1p(np.exp(raw + params["level_weight/bias"]))
    np.testing.assert_allclose(layer.level_weight(x), weight, rtol=1e-5)
    inner = layer.memory.init_state(2, 0)
    inputs, _ = layer.memory.inputs(x, inner, Layout())
    q, k, v, decay = (np.asarray(a, np.float64) for a in inputs.tokens)
    read = np.zeros_like(v)
    for t in range(time):
        for s in range(t + 1):
            share = np.sum(q[:, t] * k[:, s], axis=-1)
            share = share * np.exp(np.sum(decay[:, s + 1 : t + 1], axis=1))
            share = share * weight[:, t, :, (t ^ s).bit_length()]
            read[:, t] += share[..., None] * v[:, s]
    wanted = layer.memory.finish(jnp.asarray(read, jnp.float32), inputs, x)
    found, _ = jax.jit(lambda x: layer(x))(x)
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


def test_the_state_holds_one_memory_per_power_of_two():
    config = LogLinearAttentionConfig(memory=MEMORIES["gated_delta_net"])
    layer = config.build(8, nnx.Rngs(0), layer_index=0, depth=1)
    for length, count in [(0, 0), (1, 1), (2, 2), (5, 4), (64, 7), (1000, 11)]:
        assert len(state_spec(layer, 1, length).buckets) == count
        state = layer.init_state(1, length)
        assert layer.capacity(state) == (2 ** (count - 1) if count else 0)
    step = state_bytes(layer, 1024) - state_bytes(layer, 512)
    assert step == 4 * 2 * 4 * 8
    assert layer.capacity(layer.init_state(1, 2**16)) is None
    assert state_bytes(layer, 2**30) == state_bytes(layer, 2**16)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_levels": 1}, "num_levels is 1; give 2 or more"),
        ({"memory": GatedDeltaNetConfig}, "memory is .*; give a layer config"),
    ],
)
def test_senseless_configs_are_refused(fields, message):
    config = LogLinearAttentionConfig()
    for name, value in fields.items():
        # The field's type refuses a class before the check does.
        object.__setattr__(config, name, value)
    with pytest.raises(ValueError, match=message):
        config.__post_init__()


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        (AttentionConfig(num_heads=2), "memory is Attention, whose rule has no linear"),
        (GLAConfig(num_heads=2), "memory is GLA, whose rule has no linear chunk; choo"),
        (
            GatedDeltaNetConfig(num_heads=2, prefix=True),
            "memory is GatedDeltaNet with a prefix, .*; set prefix to False or choose",
        ),
    ],
)
def test_memories_without_levels_are_refused(memory, message):
    config = LogLinearAttentionConfig(memory=memory)
    with pytest.raises(ValueError, match=message):
        config.build(8, nnx.Rngs(0), layer_index=0, depth=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"memory": MEMORIES["mamba2"]}, {"num_levels": 3}],
    ids=["mamba2", "few levels"],
)
def test_variants_obey_the_laws(options):
    base = {"memory": MEMORIES["gated_delta_net"]}
    check_layer(LogLinearAttentionConfig(**(base | options)), width=8)
