"""Lists of layers become groups of a stack."""

import inspect

import pytest

import memzoo
from memzoo.errors import InputError
from memzoo.models.block import Group
from memzoo.models.delta_net import DeltaNetConfig
from memzoo.models.linear_attention import LinearAttentionConfig
from memzoo.models.pattern import pattern_of

DELTA, LINEAR = DeltaNetConfig(num_heads=1), LinearAttentionConfig(num_heads=1)


def test_a_repeating_unit_is_one_group():
    assert pattern_of([DELTA, DELTA, LINEAR] * 2) == (
        Group(layers=(DELTA, DELTA, LINEAR), repeats=2),
    )
    assert pattern_of([DELTA] * 3) == (Group(layers=(DELTA,), repeats=3),)


def test_runs_of_equal_layers_are_groups():
    assert pattern_of([DELTA, DELTA, LINEAR]) == (
        Group(layers=(DELTA,), repeats=2),
        Group(layers=(LINEAR,)),
    )
    assert pattern_of(["delta_net"]) == (Group(layers=(DeltaNetConfig(),)),)


@pytest.mark.parametrize(
    ("layers", "line"),
    [
        ([], "layers is empty"),
        ("delta_net", "layers is 'delta_net'; give a list"),
        (3, "layers is 3; give a list"),
        (
            [memzoo.layers.DeltaNet],
            "has the class DeltaNet .*; give the name of a layer",
        ),
        (
            [None],
            "layers has None; give the name of a layer, such as 'attention', or a",
        ),
        (["detla_net"], "there is no layer 'detla_net'; did you mean delta_net"),
    ],
)
def test_what_is_no_list_of_layers_is_refused(layers, line):
    with pytest.raises(InputError, match=line):
        inspect.unwrap(pattern_of)(layers)
