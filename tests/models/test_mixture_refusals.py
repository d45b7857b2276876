"""Mixtures that are refused, each with its reason."""

import pytest
from flax import nnx

from memzoo.models.attention import AttentionConfig
from memzoo.models.gated_delta_net import GatedDeltaNetConfig
from memzoo.models.mamba3 import Mamba3Config
from memzoo.models.mixture_of_memories import MixtureOfMemoriesConfig
from memzoo.models.prefix_linear_attention import PrefixLinearAttentionConfig
from memzoo.models.rwkv7 import RWKV7Config
from memzoo.models.titans_lmm import TitansLMMConfig
from memzoo.models.ttt_linear import TTTLinearConfig

WIDTH = 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_memories": 0}, "num_memories is 0; give 1 or more"),
        ({"top_k": 0}, "top_k is 0; give 1 to num_memories, 4"),
        ({"top_k": 5}, "top_k is 5; give 1 to num_memories, 4"),
        ({"balance_scale": -1.0}, "balance_scale is -1.0; give a finite number, 0"),
        ({"z_scale": float("inf")}, "z_scale is inf; give a finite number"),
    ],
)
def test_senseless_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MixtureOfMemoriesConfig(**options)


def test_an_unknown_form_is_refused():
    config = MixtureOfMemoriesConfig()
    # The tests' type checks would catch it first; users have none.
    object.__setattr__(config, "form", "sparse")
    with pytest.raises(ValueError, match="form is 'sparse'; choose one of auto, pac"):
        config.__post_init__()


def _with_memory(memory):
    config = MixtureOfMemoriesConfig()
    object.__setattr__(config, "memory", memory)
    return config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"persistent_tokens": 1},
            "TitansLMM, which has persistent tokens",
        ),
        ({"persistent_tokens": 0}, "form is 'packed', which needs a matrix memory"),
    ],
)
def test_what_a_network_cannot_do_is_refused(options, message):
    memory = TitansLMMConfig(num_heads=2, **options)
    config = MixtureOfMemoriesConfig(memory=memory, form="packed")
    with pytest.raises(ValueError, match=message):
        config.build(WIDTH, nnx.Rngs(0), layer_index=0, depth=2)


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        (GatedDeltaNetConfig(prefix=True), "GatedDeltaNet, .*; set prefix to False$"),
        (PrefixLinearAttentionConfig(num_heads=2), ".*ion, .*; choose another layer$"),
        (Mamba3Config(head_size=4, state_size=4), "Mamba3, which rotates .* layer, s"),
        (RWKV7Config(num_heads=2), "RWKV7, which adds a bonus .* another layer, such"),
        (AttentionConfig(num_heads=2), "Attention, not an Associative"),
        (
            TTTLinearConfig(num_heads=2),
            "TTT, which takes steps that depend",
        ),
    ],
)
def test_memories_that_a_mixture_cannot_hold_are_refused(memory, message):
    with pytest.raises(ValueError, match=f"memory is {message}"):
        _with_memory(memory).build(WIDTH, nnx.Rngs(0), layer_index=0, depth=2)


def test_a_memory_that_is_no_config_is_refused():
    config = MixtureOfMemoriesConfig()
    # The tests' type checks would catch it first; users have none.
    for memory in ("gated_delta_net", GatedDeltaNetConfig):
        object.__setattr__(config, "memory", memory)
        with pytest.raises(
            ValueError, match=r"memory is .*; give a layer config, such"
        ):
            config.__post_init__()
