"""The table of roles, as it applies to a stacked model."""

import pytest
from flax import nnx

from memzoo.models import LAYERS
from memzoo.models.block import Group
from memzoo.models.language_model import LanguageModelConfig
from memzoo.train.roles import (
    ROLES,
    decay_mask,
    describe,
    logical_axes,
    role,
)
from memzoo.train.state import make_template

BLOCK = "stack/groups/0/blocks/0"

GOLDEN = """\
embedding (32, 8) vocab,embed decays
final_norm/scale (8,) - stays
head (32, 8) vocab,embed decays
stack/groups/0/blocks/0/mixer/decay/kernel (3, 8, 2) -,embed,heads decays
stack/groups/0/blocks/0/mixer/key/convolution/kernel (3, 4, 8) -,-,heads stays
stack/groups/0/blocks/0/mixer/key/kernel (3, 8, 8) -,embed,heads decays
stack/groups/0/blocks/0/mixer/log_a (3, 2) -,heads stays
stack/groups/0/blocks/0/mixer/query/convolution/kernel (3, 4, 8) -,-,heads stays
stack/groups/0/blocks/0/mixer/query/kernel (3, 8, 8) -,embed,heads decays
stack/groups/0/blocks/0/mixer/read_out/gate/kernel (3, 8, 8) -,embed,heads decays
stack/groups/0/blocks/0/mixer/read_out/norm/scale (3, 4) -,- stays
stack/groups/0/blocks/0/mixer/read_out/projection/kernel (3, 8, 8) -,heads,embed decays
stack/groups/0/blocks/0/mixer/time_bias (3, 2) -,heads stays
stack/groups/0/blocks/0/mixer/value/convolution/kernel (3, 4, 8) -,-,heads stays
stack/groups/0/blocks/0/mixer/value/kernel (3, 8, 8) -,embed,heads decays
stack/groups/0/blocks/0/mixer/write_strength/kernel (3, 8, 2) -,embed,heads decays
stack/groups/0/blocks/0/mlp/down/kernel (3, 16, 8) -,mlp,embed decays
stack/groups/0/blocks/0/mlp/gate/kernel (3, 8, 16) -,embed,mlp decays
stack/groups/0/blocks/0/mlp/up/kernel (3, 8, 16) -,embed,mlp decays
stack/groups/0/blocks/0/mlp_norm/scale (3, 8) -,- stays
stack/groups/0/blocks/0/norm/scale (3, 8) -,- stays"""


def shapes_of(layer, width=8, **changes):
    config = LanguageModelConfig(
        vocab_size=32,
        width=width,
        mlp_width=16,
        pattern=(Group(layers=(layer,), repeats=3),),
        **changes,
    )
    return make_template(lambda key: config.build(nnx.Rngs(key))).shapes()[0]


def test_the_table_of_a_stacked_model():
    layer = LAYERS["gated_delta_net"](num_heads=2, value_ratio=1)
    assert describe(shapes_of(layer, tie_embeddings=False)) == GOLDEN


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_of_the_zoo_says_its_roles(name):
    for parameter in shapes_of(LAYERS[name](), width=128):
        assert role(parameter) in ROLES, parameter


def test_stacked_vectors_do_not_decay_though_they_have_two_axes():
    mask = decay_mask(shapes_of(LAYERS["gated_delta_net"](num_heads=2)))
    decaying = {name for name, decays in mask.items() if decays}
    assert {"embedding", f"{BLOCK}/mlp/up/kernel"} <= decaying
    last_words = ("scale", "log_a", "time_bias", "bias")
    assert not any(name.endswith(last_words) for name in decaying)
    assert not any("convolution" in name for name in decaying)


def test_every_own_map_of_a_mixture_has_an_axis_of_memories():
    shapes = shapes_of(LAYERS["mixture_of_memories"](num_memories=5), width=128)
    of_memories = {
        name.rpartition("mixer/")[2]: logical_axes(name, len(leaf.shape))[1:]
        for name, leaf in shapes.items()
        if 5 in leaf.shape and "router" not in name
    }
    assert of_memories == {
        f"memory/{name}/kernel": ("memories", "embed", "heads")
        for name in ("key", "value", "write_strength", "decay")
    }


def test_layers_from_elsewhere_go_by_the_names_that_flax_gives():
    map_, number = f"{BLOCK}/mixer/novelty/kernel", f"{BLOCK}/mixer/novelty"
    assert decay_mask({map_: None, number: None}) == {map_: True, number: False}
    assert logical_axes(map_, 3) == (None, "embed", "heads")
    assert logical_axes(number, 2) == (None, None)


def test_a_parameter_without_the_layer_axis_is_named():
    with pytest.raises(ValueError, match="mlp/up/kernel has 2 axes and its role"):
        logical_axes(f"{BLOCK}/mlp/up/kernel", 2)


@pytest.mark.parametrize("name", ["embedding", "head"])
def test_the_vocabulary_has_its_role_at_the_top_alone(name):
    assert role(name).axes == ("vocab", "embed")
    within = f"{BLOCK}/mixer/{name}"
    assert role(within) not in ROLES
    assert logical_axes(within, 1) == (None,)
    assert decay_mask({name: None, within: None}) == {name: True, within: False}


def test_a_role_is_not_guessed_from_part_of_a_word():
    assert role("head") in ROLES
    assert role("overhead") not in ROLES
