"""The state of a stack: a pytree of tuples, indexed by name."""

import jax
import numpy as np
import pytest
from flax import nnx

from memzoo.errors import InputError
from memzoo.models.delta_net import DeltaNetConfig
from memzoo.models.language_model import LanguageModel
from memzoo.models.linear_attention import LinearAttentionConfig
from memzoo.models.stack_state import StackState

DELTA, LINEAR = DeltaNetConfig(num_heads=1), LinearAttentionConfig(num_heads=1)


@pytest.fixture(scope="module")
def model():
    return LanguageModel(
        vocab_size=11,
        width=4,
        layers=[LINEAR, DELTA, DELTA, LINEAR],
        rngs=nnx.Rngs(0),
    )


def test_a_layer_is_found_by_its_name(model):
    tokens = np.array([[3, 1, 4, 1, 5]], np.int32)
    _, state = jax.jit(lambda tokens: model(tokens))(tokens)
    assert type(state) is StackState
    assert state.names() == [f"layers.{number}" for number in range(4)]
    for number, (group, repeat) in enumerate([(0, 0), (1, 0), (1, 1), (2, 0)]):
        found, held = state[f"layers.{number}"], state[group][0]
        assert type(found) is type(held)
        assert found.memory.shape == held.memory.shape[1:]
        np.testing.assert_array_equal(found.memory, held.memory[repeat])
    # The layers of a group differ, so this checks the right one.
    assert np.any(state["layers.1"].memory != state["layers.2"].memory)


def test_an_unknown_name_is_refused(model):
    with pytest.raises(InputError, match=r"no 'layers.4'; choose a layer from lay"):
        model.init_state(1, 0)["layers.4"]


def test_keys_of_leaves_are_those_of_a_tuple(model):
    state = model.init_state(1, 0)
    plain = jax.tree_util.tree_leaves_with_path(tuple(state))
    assert [path for path, _ in plain] == [
        path for path, _ in jax.tree_util.tree_leaves_with_path(state)
    ]
