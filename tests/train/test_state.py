"""Models as arrays by path, and back; states created in their shardings."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import PartitionSpec

from memzoo.configs.experiment import MeshConfig
from memzoo.train.sharding import make_mesh
from memzoo.train.state import (
    born_sharded,
    by_path,
    init_state,
    make_template,
    state_specs,
)

KEY = jax.random.key(3)


class Counter(nnx.Variable):
    """State of an untrained model."""


class Pair(nnx.Module):
    def __init__(self, key):
        rngs = nnx.Rngs(key)
        self.embedding = nnx.Param(rngs.params.normal((4, 8)))
        self.calls = Counter(jnp.zeros((), jnp.int32))
        self.dropout = nnx.Dropout(0.5, rngs=rngs)


def test_a_model_comes_back_from_its_arrays():
    model = Pair(KEY)
    _, params, rest = nnx.split(model, nnx.Param, ...)
    merged = make_template(Pair).merge(by_path(params), by_path(rest))
    assert isinstance(merged, Pair)
    np.testing.assert_array_equal(merged.embedding[...], model.embedding[...])
    assert set(by_path(rest)) >= {"calls", "dropout/rngs/count", "dropout/rngs/key"}


def test_a_template_holds_no_arrays():
    params, rest = make_template(Pair).shapes()
    leaves = jax.tree.leaves((params, rest))
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)


def test_states_are_born_sharded_and_equal_on_any_mesh():
    optimizer = optax.adam(1e-3)
    expected = init_state(Pair, optimizer, KEY)
    mesh = make_mesh(MeshConfig(fsdp=4, tensor=2))
    specs = state_specs(mesh, Pair, optimizer)
    state = born_sharded(Pair, optimizer, specs, KEY)
    spec = PartitionSpec("tensor", "fsdp")
    assert state.params["embedding"].sharding.spec == spec
    assert state.opt_state[0].mu["embedding"].sharding.spec == spec
    assert state.rest["calls"].sharding.spec == PartitionSpec()
    np.testing.assert_array_equal(
        state.params["embedding"], expected.params["embedding"]
    )
    assert int(state.step) == 0 and int(state.failed_step) == -1
