"""Mixtures of every kind of memory, and every option, obey the laws."""

import pytest

from memzoo.models.delta_net import DeltaNetConfig
from memzoo.models.gated_delta_net import GatedDeltaNetConfig
from memzoo.models.linear_attention import LinearAttentionConfig
from memzoo.models.mamba2 import Mamba2Config
from memzoo.models.mixture_of_memories import MixtureOfMemoriesConfig
from memzoo.models.retnet import RetNetConfig
from memzoo.models.titans_lmm import TitansLMMConfig
from memzoo.testing import check_layer

WIDTH = 8
GATED = GatedDeltaNetConfig(num_heads=2, value_ratio=1, chunk_size=4)
MEMORIES = {
    "linear_attention": LinearAttentionConfig(num_heads=2, chunk_size=4),
    "retnet": RetNetConfig(num_heads=2, chunk_size=4),
    "mamba2": Mamba2Config(head_size=4, state_size=4, chunk_size=4),
    "delta_net": DeltaNetConfig(num_heads=2, chunk_size=4),
    "gated_delta_net": GATED,
    "titans_lmm": TitansLMMConfig(
        num_heads=2, persistent_tokens=0, update_every=4, chunk_size=8
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMORIES)
def test_every_rule_obeys_the_laws(name):
    check_layer(MixtureOfMemoriesConfig(memory=MEMORIES[name]), width=WIDTH)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"shared_memory": False},
        {"single_kv_proj": True},
        {"num_memories": 8, "top_k": 3},
        {"num_memories": 2},
        {"form": "dense"},
        {"form": "padded"},
    ],
    ids=str,
)
def test_variants_obey_the_laws(options):
    check_layer(MixtureOfMemoriesConfig(memory=GATED, **options), width=WIDTH)
