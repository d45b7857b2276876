"""States of another layer, width, batch or type are refused before any work."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import memzoo
from memzoo.errors import InputError
from memzoo.models import LAYERS, state_checks
from memzoo.models.interface import state_spec
from memzoo.models.state_checks import Needed, check_sizes, needed_state

WIDTH = 8


def build(name, width=WIDTH, **fields):
    config = LAYERS[name](**LAYERS[name].small | fields)
    return config.build(width, nnx.Rngs(0), layer_index=0, depth=1)


@pytest.fixture(scope="module")
def layer():
    return build("gated_delta_net", num_heads=2)


def refuse(layer, state, line):
    x = jnp.ones((2, 3, WIDTH))
    for call in (
        lambda: layer(x, state),
        lambda: layer.step(x[:, 0], state),
        lambda: jax.eval_shape(layer, x, state),
    ):
        with pytest.raises(InputError, match=line):
            call()


@pytest.mark.parametrize(
    ("name", "fields", "line"),
    [
        ("gated_delta_net", {"width": 16}, r"memory of the state has shape \(2, 2, 8"),
        ("gated_delta_net", {"num_heads": 4}, r"\(2, 4, 2, 4\), not \(2, 2, 4, 8\); "),
        ("gated_delta_net", {"convolution_size": 2}, "tails.query of the state has s"),
        ("delta_net", {}, r"Net: memory of the state has shape \(2, 2, 4, 4\), not "),
        ("titans_lmm", {}, "GatedDeltaNet: the state has no memory; give the state th"),
        ("attention", {}, "GatedDeltaNet: the state is an AttentionState, not an Asso"),
    ],
)  # fmt: skip
def test_states_of_other_layers_are_refused(layer, name, fields, line):
    other = build(name, **{"num_heads": 2} | fields)
    refuse(layer, other.init_state(2, 9), line)


def test_states_of_other_types_are_refused(layer):
    state = layer.init_state(2, 9)
    for dtype in (jnp.bfloat16, jnp.int32):
        other = state._replace(memory=state.memory.astype(dtype))
        line = f"memory of the state is {dtype.__name__}, not float32; give the state"
        refuse(layer, other, line)
    with pytest.raises(InputError, match="step needs a state; give that of a call, or"):
        inspect.unwrap(type(layer).step)(layer, jnp.ones((2, WIDTH)), None)


def test_states_that_are_no_arrays_are_refused(layer):
    needed = needed_state(layer, 2, state_spec)
    state = layer.init_state(2, 9)
    with pytest.raises(InputError, match="L: memory of the state is a float; give"):
        check_sizes("L", state._replace(memory=0.5), needed)
    more = state._replace(memory={"weights": state.memory})
    with pytest.raises(InputError, match="L: the state has no memory; give"):
        check_sizes("L", more, needed)
    one, two = ({name: jnp.ones(2) for name in names} for names in ("a", "ab"))
    with pytest.raises(InputError, match="L: the state has b, and this layer's has no"):
        check_sizes("L", two, Needed(one, one))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("length", [0, 1, 7, 5000])
def test_states_of_every_length_are_accepted(name, length):
    layer = build(name)
    needed = needed_state(layer, 2, state_spec)
    check_sizes(name, state_spec(layer, 2, length), needed)
    # A state in float64 loses nothing.
    wide = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(
            x.shape, np.float64 if x.dtype == jnp.float32 else x.dtype
        ),
        state_spec(layer, 2, length),
    )
    check_sizes(name, wide, needed)


def test_a_layer_is_asked_once(layer, monkeypatch):
    state, x = layer.init_state(2, 9), jnp.ones((2, 3, WIDTH))
    layer._check_state(x, state)
    monkeypatch.setattr(state_checks, "Needed", None)
    layer._check_state(x, state)


def test_states_of_other_models_are_refused():
    model, wider, other = (
        memzoo.LanguageModel(
            vocab_size=5, width=width, layers=["retnet", layer], rngs=nnx.Rngs(0)
        )
        for width, layer in ((8, "attention"), (16, "attention"), (8, "delta_net"))
    )
    tokens = jnp.ones((2, 3), jnp.int32)
    for state, line in (
        (wider.init_state(2, 9), r"RetNet: memory of the state has shape \(1, 2, 4,"),
        (other.init_state(2, 9), "Attention: the state is an AssociativeState, not "),
        (model.init_state(3, 9), "the batch size of x is 2, of the state 3; give both"),
        (model.stack.init_state(2, 9)[0], "Stack: the state is a tuple, not a Stack"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=line):
            inspect.unwrap(type(model).hidden)(model, tokens, state)
        with pytest.raises(InputError, match=line):
            inspect.unwrap(type(model).step)(model, tokens[:, 0], state)
    model.stack._check_state(tokens, model.init_state(2, 0))
