"""Every registered layer obeys every law."""

import dataclasses
import typing

import pytest

from memzoo.models import LAYERS, LayerConfig
from memzoo.models.gated_delta_net import GatedDeltaNetConfig
from memzoo.models.sliding_window_attention import SlidingWindowAttentionConfig
from memzoo.models.titans_lmm import TitansLMMConfig
from memzoo.testing import check_layer

MEMORY = TitansLMMConfig(
    num_heads=2, memory_expansion=1, update_every=4, chunk_size=8, persistent_tokens=2
)
SMALL = {
    "mamba2": {"head_size": 16, "state_size": 8},
    "mixture_of_memories": {"memory": GatedDeltaNetConfig(chunk_size=8)},
    "sliding_window_attention": {"window": 6},
    "titans_lmm": {"update_every": 4, "memory_expansion": 1},
    "titans_mac": {
        "memory": dataclasses.replace(MEMORY, persistent_tokens=0),
        "segment_size": 6,
    },
    "titans_mag": {
        "memory": MEMORY,
        "attention": SlidingWindowAttentionConfig(window=6, persistent_tokens=2),
    },
    "titans_mal": {
        "memory": MEMORY,
        "attention": SlidingWindowAttentionConfig(window=6, persistent_tokens=2),
    },
    "ttt_linear": {"update_every": 4},
    "ttt_mlp": {"update_every": 4, "backbone": "transformer"},
}


def test_registry_and_union_agree():
    assert set(LAYERS.values()) == set(typing.get_args(LayerConfig))


@pytest.mark.parametrize("name", LAYERS)
def test_laws(name):
    check_layer(LAYERS[name](**SMALL.get(name, {})))
