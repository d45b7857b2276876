"""Every registered layer obeys every law."""

import typing

import pytest

from memzoo.models import LAYERS, LayerConfig
from memzoo.models.gated_delta_net import GatedDeltaNetConfig
from memzoo.testing import check_layer

SMALL = {
    "mamba2": {"head_size": 16, "state_size": 8},
    "mixture_of_memories": {"memory": GatedDeltaNetConfig(chunk_size=8)},
    "sliding_window_attention": {"window": 6},
}


def test_registry_and_union_agree():
    assert set(LAYERS.values()) == set(typing.get_args(LayerConfig))


@pytest.mark.parametrize("name", LAYERS)
def test_laws(name):
    check_layer(LAYERS[name](**SMALL.get(name, {})))
