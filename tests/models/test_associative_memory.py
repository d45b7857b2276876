"""Methods of `AssociativeMemory` that mixtures use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.gated_delta_net import GatedDeltaNetConfig
from memzoo.models.interface import Layout, SequenceInfo
from memzoo.models.mamba2 import Mamba2, Mamba2Config

CONFIGS = [
    GatedDeltaNetConfig(num_heads=2, chunk_size=4),
    Mamba2Config(head_size=4, state_size=5, chunk_size=4),
]


@pytest.fixture(scope="module", params=CONFIGS, ids=lambda c: type(c).__name__)
def built(request, subject):
    return subject(request.param)


def test_the_parts_make_the_layer(built):
    layer, _, x = built
    state = layer.init_state(2, 0)

    @jax.jit
    def by_parts(x, state):
        inputs, tails = layer.inputs(x, state, Layout())
        read, memory = layer.write_and_read(inputs, state.memory, None)
        if inputs.skip is not None:
            read = read + inputs.skip
        return layer.output(read, x), memory, tails

    y, memory, tails = by_parts(x, state)
    whole, after = jax.jit(lambda x, state: layer(x, state))(x, state)
    np.testing.assert_allclose(y, whole, atol=1e-5)
    np.testing.assert_allclose(memory, after.memory, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, tails, after.tails)


def test_reading_writes_nothing(built):
    layer, _, x = built
    state = layer.init_state(2, 0)

    @jax.jit
    def run(x, state):
        inputs, _ = layer.inputs(x, state, Layout())
        read, memory = layer.write_and_read(inputs, state.memory, None)
        return inputs, read, memory, layer.read(inputs.query, memory)

    inputs, *arrays = run(x, state)
    read, memory, last = map(np.asarray, arrays)
    np.testing.assert_allclose(last[:, -1], read[:, -1], rtol=1e-4, atol=1e-5)
    wanted = np.zeros(last.shape)
    for b, t, h in np.ndindex(last.shape[:3]):
        wanted[b, t, h] = np.asarray(memory[b, h]).T @ np.asarray(inputs.query[b, t, h])
    np.testing.assert_allclose(last, wanted, rtol=1e-4, atol=1e-5)


def test_the_state_begins_empty_whatever_the_length(built):
    layer, _, _ = built
    state = layer.init_state(3, 10**6)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(state))
    assert state.memory.dtype == jnp.float32
    assert all(leaf.shape[0] == 3 for leaf in jax.tree.leaves(state))


def test_a_layer_that_accepts_a_prefix_says_what_it_writes():
    said = "accepts a prefix but has no prefix_inputs; define prefix_inputs"
    with pytest.raises(TypeError, match=f"Silent {said}"):

        class Silent(Mamba2):
            accepts_prefix = True

    layer = CONFIGS[1].build(8, nnx.Rngs(0), layer_index=0, depth=1)
    layer.accepts_prefix = True
    x = jnp.ones((1, 4, 8))
    with pytest.raises(TypeError, match=f"Mamba2 {said}"):
        layer(x, layer.init_state(1, 0), SequenceInfo(prefix=jnp.ones((1, 4), bool)))


def test_a_matrix_memory_without_a_chunk_size_says_what_it_lacks():
    class Bare(Mamba2):
        def __init__(self):
            pass

    with pytest.raises(TypeError, match=r"Bare needs self\.config with a field chunk"):
        Bare()._chunk_size()
