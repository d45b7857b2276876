"""Classes that build the registered layers."""

import copy
import dataclasses
import inspect
import pickle
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import memzoo
from memzoo.errors import InputError
from memzoo.layers import LayerClass
from memzoo.models import LAYERS
from memzoo.models.interface import SequenceInfo, TokenInfo

WIDTH = 8


def test_every_registered_layer_is_a_class():
    for config in LAYERS.values():
        name = config.__name__.removesuffix("Config")
        made = getattr(memzoo.layers, name)
        assert isinstance(made, LayerClass) and made.Config is config
        assert getattr(memzoo.layers, config.__name__) is config
        parameters = inspect.signature(made).parameters
        assert list(parameters)[:2] == ["width", "rngs"]
        for field in dataclasses.fields(config):
            assert f"\n    {field.name} (" in made.__doc__
            assert field.name in parameters


@pytest.fixture(scope="module")
def layer():
    return memzoo.layers.GatedDeltaNet(WIDTH, num_heads=2, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def x():
    values = np.random.default_rng(0).normal(size=(2, 6, WIDTH))
    return jnp.asarray(values, jnp.float32)


def test_a_layer_goes_on_exactly(layer, x):
    assert isinstance(layer, memzoo.layers.GatedDeltaNet)
    assert not isinstance(layer, memzoo.layers.DeltaNet)
    whole, _ = layer(x)
    first, state = layer(x[:, :4])
    second, _ = layer(x[:, 4:], state)
    joined = jnp.concatenate([first, second], axis=1)
    np.testing.assert_allclose(joined, whole, atol=1e-5)
    # Without the state the rest would be a new document.
    alone, _ = layer(x[:, 4:])
    assert np.max(np.abs(alone - second)) > 1e-2


def test_a_layer_is_a_part_of_a_users_module(x):
    class Mine(nnx.Module):
        def __init__(self, rngs):
            self.mixer = memzoo.layers.LinearAttention(WIDTH, num_heads=2, rngs=rngs)
            self.head = nnx.Linear(WIDTH, 3, rngs=rngs)

        def __call__(self, x):
            return self.head(self.mixer(x)[0])

    def loss(model):
        return jnp.mean(model(x) ** 2)

    gradient = jax.jit(nnx.grad(loss))(Mine(nnx.Rngs(0)))
    leaves = jax.tree.leaves(gradient)
    assert leaves and all(np.any(leaf != 0) for leaf in leaves)


def test_a_state_that_grows_has_the_room_asked_for(x):
    layer = memzoo.layers.Attention(WIDTH, num_heads=2, rngs=nnx.Rngs(0))
    _, state = layer(x[:, :4], max_length=6)
    _, state = layer(x[:, 4:], state)
    with pytest.raises(InputError, match="allocated for 6; give max_length=7 or"):
        layer(x[:, :1], state)
    with pytest.raises(InputError, match="give max_length to the first call"):
        layer(x[:, :1], state, max_length=9)


def test_a_state_of_another_layer_is_refused(layer, x):
    attention = memzoo.layers.Attention(WIDTH, num_heads=2, rngs=nnx.Rngs(0))
    _, state = attention(x)
    with pytest.raises(
        InputError, match=r"Net: the state is an AttentionState, not an"
    ):
        layer(x, state)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"head_dim": 4}, "no field 'head_dim'; it is called head_size here"),
        ({"hidden_size": 4}, r"give the width first, as in GatedDeltaNet\(512, rngs="),
        ({"num_head": 4}, "no field 'num_head'; did you mean num_heads?"),
        ({"zzz": 4}, "no field 'zzz'; its fields are num_heads, "),
        ({"num_heads": 3}, "num_heads 3 does not divide width 8"),
        ({"num_heads": "2"}, "^num_heads is '2'; it must be int$"),
        ({"num_heads": True}, "^num_heads is True; it must be int$"),
        ({"chunk_size": "3"}, "^chunk_size is '3'; it must be int or None$"),
        ({"norm_epsilon": None}, "^norm_epsilon is None; it must be float$"),
    ],
)
def test_wrong_fields_are_refused(fields, line):
    with pytest.raises(InputError, match=line):
        memzoo.layers.GatedDeltaNet(WIDTH, rngs=nnx.Rngs(0), **fields)


@pytest.mark.parametrize("name", LAYERS)
def test_no_layer_takes_text_for_a_number(name):
    config = LAYERS[name]
    hints = typing.get_type_hints(config)
    numbers = [f.name for f in dataclasses.fields(config) if hints[f.name] is int]
    for field in numbers:
        with pytest.raises(InputError, match=f"^{field} is '2'; it must be int$"):
            config(**{field: "2"})
    # A copy and a changed copy are made without the fields by name.
    assert copy.copy(config()) == pickle.loads(pickle.dumps(config())) == config()


@pytest.mark.parametrize(
    ("sizes", "line"),
    [
        ((1, "4"), "max_length is '4'; give a whole number"),
        ((1, None), "max_length is None; give a whole number"),
        ((1, -1), "max_length is -1; give 0 or more"),
        ((2.0, 4), "batch_size is 2.0; give a whole number"),
    ],
)
def test_wrong_sizes_of_a_state_are_refused(layer, sizes, line):
    with pytest.raises(InputError, match=line):
        layer.init_state(*sizes)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("MultiheadAttention", "it is called Attention here"),
        ("GatedDeltaNets", "did you mean GatedDeltaNet?"),
        ("Zzz", "there are Attention, "),
    ],
)
def test_unknown_layers_name_the_one_to_use(name, line):
    with pytest.raises(AttributeError, match=line):
        getattr(memzoo.layers, name)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"width": 8.0}, "width is 8.0; give a whole number, 1 or more"),
        ({"width": -8}, "width is -8; give a whole number, 1 or more"),
        ({"rngs": 0}, r"rngs is 0; give rngs=nnx.Rngs\(0\)"),
        ({"rngs": None}, r"rngs is None; give rngs=nnx.Rngs\(0\)"),
        ({"rngs": jax.random.key(0)}, r"rngs is Array\(.*; give rngs=nnx.Rngs\(0\)"),
        ({"depth": 0}, "depth is 0; give 1 or more"),
        ({"layer_index": "1"}, "layer_index is '1'; give a whole number"),
    ],
)
def test_sizes_and_streams_of_wrong_types_are_refused(arguments, line):
    call = inspect.unwrap(type(memzoo.layers.DeltaNet).__call__)
    arguments = {"width": WIDTH, "rngs": nnx.Rngs(0)} | arguments
    with pytest.raises(InputError, match=line) as refused:
        call(memzoo.layers.DeltaNet, num_heads=2, **arguments)
    assert "\n" not in str(refused.value)


def test_a_field_without_a_name_is_refused():
    with pytest.raises(InputError, match="takes the width and then fields by name; gi"):
        memzoo.layers.DeltaNet(WIDTH, 2, rngs=nnx.Rngs(0))


def test_numbers_of_numpy_are_read(layer, x):
    call = inspect.unwrap(type(layer).__call__)
    wide, _ = call(layer, np.asarray(x, np.float64))
    np.testing.assert_array_equal(wide, layer(x)[0])


def test_inputs_that_are_not_arrays_of_numbers_are_refused(layer, x):
    # As without the type checks of the tests.
    call = inspect.unwrap(type(layer).__call__)
    with pytest.raises(InputError, match="GatedDeltaNet: x is a list; give an array"):
        call(layer, x.tolist())
    with pytest.raises(InputError, match="GatedDeltaNet: x is int32; give floats"):
        call(layer, x.astype(int))
    with pytest.raises(InputError, match="info is a dict; give a SequenceInfo"):
        call(layer, x, None, {"reset": None})
    with pytest.raises(InputError, match="GatedDeltaNet: valid is int32; give a mask"):
        call(layer, x, None, SequenceInfo(valid=jnp.ones(x.shape[:2], int)))
    with pytest.raises(InputError, match="GatedDeltaNet: reset is a list; give an arr"):
        call(layer, x, None, SequenceInfo(reset=[[True]]))
    step, state = inspect.unwrap(type(layer).step), layer.init_state(2, 4)
    with pytest.raises(InputError, match="info is a SequenceInfo; give a TokenInfo"):
        step(layer, x[:, 0], state, SequenceInfo())
    with pytest.raises(InputError, match="give it the axes `b`, here"):
        step(layer, x[:, 0], state, TokenInfo(reset=jnp.zeros((3,), bool)))
    with pytest.raises(InputError, match="max_length is '4'; give a whole number"):
        inspect.unwrap(type(layer)._started)(layer, x, None, "4")


@pytest.mark.parametrize("name", ["GatedDeltaNet", "Attention"])
@pytest.mark.parametrize("mask", ["reset", "valid"])
def test_masks_of_another_length_are_refused(x, name, mask):
    layer = getattr(memzoo.layers, name)(WIDTH, num_heads=2, rngs=nnx.Rngs(0))
    info = SequenceInfo(**{mask: jnp.zeros((len(x), x.shape[1] - 1), bool)})
    call = inspect.unwrap(type(layer).__call__)
    with pytest.raises(InputError, match=f"{name}: {mask} has shape .*; give it the"):
        call(layer, x, None, info)
