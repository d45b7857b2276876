"""Layers with changed fields."""

from pathlib import Path

import pytest

from memzoo.configs.variants import layer_from_text, with_fields
from memzoo.models.gated_delta_net import GatedDeltaNetConfig
from memzoo.models.mixture_of_memories import MixtureOfMemoriesConfig


def test_fields_of_a_layer_and_of_the_layer_inside_it():
    found = with_fields(
        MixtureOfMemoriesConfig(),
        {"top_k": 1, "memory.head_size": 8, "memory.value_ratio": 1},
    )
    memory = GatedDeltaNetConfig(head_size=8, value_ratio=1)
    assert found == MixtureOfMemoriesConfig(top_k=1, memory=memory)


def test_a_layer_is_read_from_text():
    assert layer_from_text("gated_delta_net") == GatedDeltaNetConfig()
    text = "mixture_of_memories/form=dense/memory.output_gate=False/z_scale=0.5"
    assert layer_from_text(text) == MixtureOfMemoriesConfig(
        form="dense", memory=GatedDeltaNetConfig(output_gate=False), z_scale=0.5
    )


def test_a_layer_from_outside_is_read_from_text():
    example = Path(__file__).resolve().parents[2] / "docs" / "examples" / "my_layer.py"
    made = layer_from_text(f"{example}:MyLayerConfig/num_heads=4")
    assert (type(made).__name__, made.num_heads) == ("MyLayerConfig", 4)
    assert layer_from_text("my_layer:MyLayerConfig") == type(made)()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mixture", "layer is 'mixture'; known: armt, "),
        ("retnet/heads=2", "RetNetConfig has no field 'heads'; did you mean num_heads"),
        ("mixture_of_memories/memory.topk=2", "GatedDeltaNetConfig has no field 'topk"),
        ("mixture_of_memories/top_k=9", "top_k is 9; give 1 to num_memories, 4"),
        ("mixture_of_memories/dense", "'dense' in .* is not a field; give field=value"),
    ],
)
def test_what_is_no_layer_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        layer_from_text(text)
