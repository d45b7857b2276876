"""Variants of layers by name."""

import dataclasses

import pytest
from flax import nnx

from memzoo.configs.presets.mqar import comparable_layer
from memzoo.errors import MemzooError
from memzoo.evals.compared_layers import (
    ABLATIONS,
    ablation_text,
    compared_layer,
    variants,
)
from memzoo.models import LAYERS
from memzoo.models.interface import state_bytes


def layer_by_name(name, *size):
    return compared_layer(name).config(*size)


def reads_prefix(name, *size):
    return compared_layer(name).reads_prefix(*size)


def test_a_plain_name_is_the_layer_that_recall_compares():
    for name in LAYERS:
        assert layer_by_name(name, 16, 2) == comparable_layer(name, 16, 2)


@pytest.mark.parametrize("layer", ABLATIONS)
def test_variants_differ_from_the_whole_in_one_thing(layer):
    first, *others = variants(layer)
    whole = dataclasses.asdict(layer_by_name(first, 16, 2))
    beside = {f"{layer}-{name}" for name in ABLATIONS[layer].beside}
    assert len(others) > len(beside)
    for name in others:
        if name in beside:
            continue
        one = dataclasses.asdict(layer_by_name(name, 16, 2))
        assert sum(one[field] != whole[field] for field in whole) == 1


def test_the_ablations_of_titans_are_those_of_the_paper():
    whole, *others = (layer_by_name(n, 64, 1) for n in variants("titans_lmm"))
    assert whole.momentum and whole.forget and whole.persistent_tokens
    assert (whole.memory_depth, whole.convolution_size) == (2, 4)
    changed = ("momentum", "forget", "memory_depth", "convolution_size")
    assert [getattr(layer, f) for layer, f in zip(others, changed, strict=False)] == [
        False,
        False,
        1,
        0,
    ]
    assert others[-1].persistent_tokens == 0
    assert "no_momentum (momentum False)" in ablation_text("titans_lmm")


def test_the_ablations_of_hybrids_are_their_residuals_and_sums():
    whole, plain, product, unclipped, printed = (
        layer_by_name(n, 64, 1) for n in variants("titans_mac")
    )
    assert (whole.residual, whole.add_memory) == (True, True)
    assert (plain.residual, plain.add_memory) == (False, True)
    assert (product.residual, product.add_memory) == (True, False)
    assert (whole.memory.clip, unclipped.memory.clip) == (1.0, None)
    assert (printed.residual, printed.add_memory) == (False, False)
    whole, plain, bare = (layer_by_name(n, 64, 1) for n in variants("titans_mal"))
    assert (whole.residual, whole.attention.convolution_size) == (True, 4)
    assert (plain.residual, plain.attention.convolution_size) == (False, 4)
    assert (bare.residual, bare.attention.convolution_size) == (True, 0)


def test_a_mixture_stands_beside_one_memory_of_its_rule():
    names = ("whole", "plain", "plain_wide", "plain_large")
    mixture, *others = (
        layer_by_name(f"mixture_of_memories-{name}", 64, 1) for name in names
    )
    size = mixture.memory.head_size
    assert all(type(other) is type(mixture.memory) for other in others)
    plain, wide, large = others
    assert plain == mixture.memory
    assert wide.head_size == size
    assert wide.value_ratio == mixture.num_memories + 1
    # One number more in keys and values would exceed the bytes.
    larger = dataclasses.replace(large, head_size=large.head_size + 1)
    assert _bytes(large) <= _bytes(mixture) < _bytes(larger)
    said = ablation_text("mixture_of_memories")
    assert "has memory.head_size 16, balance_scale 0.001; each other" in said
    assert said.endswith("plain_large (gated_delta_net with head_size 38).")


def _bytes(config):
    def build():
        return config.build(64, nnx.Rngs(0), layer_index=0, depth=2)

    return state_bytes(nnx.eval_shape(build), 64)


def test_the_same_layer_reads_a_prefix_or_does_not():
    name = "prefix_linear_attention"
    for each in (name, f"{name}-causal"):
        assert layer_by_name(each, 16, 2) == comparable_layer(name, 16, 2)
    assert reads_prefix(name, 16, 2) and not reads_prefix(f"{name}-causal", 16, 2)
    assert layer_by_name("gated_delta_net-prefix", 16, 2).prefix
    assert reads_prefix("gated_delta_net-prefix", 16, 2)
    assert not reads_prefix("gated_delta_net", 16, 2)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("retnet-causal", "layer 'retnet-causal' is not known"),
        ("prefix_attention-prefix", "did you mean prefix_attention-causal"),
        ("titans_lm", "layer 'titans_lm' is not known; did you mean titans_lmm"),
        ("titans_lmm-no_momentun", "did you mean titans_lmm-no_momentum"),
        ("attention-whole", "layer 'attention-whole' is not known"),
    ],
)
def test_unknown_names_are_refused(name, said):
    with pytest.raises(ValueError, match=said):
        compared_layer(name)


def test_what_has_no_ablation_is_refused():
    with pytest.raises(ValueError, match="ablate is 'retnet'; no ablation; known: mix"):
        variants("retnet")


def test_a_head_may_be_smaller_than_the_width():
    small = {
        name: layer_by_name(name, 64, 1, 16)
        for name in ("delta_net", "titans_lmm", "retnet", "mamba2", "ttt_linear")
    }
    mamba2 = small.pop("mamba2")
    # Mamba-2's heads share their keys.
    assert (mamba2.state_size, mamba2.head_size) == (16, 64)
    assert {layer.head_size for layer in small.values()} == {16}
    assert layer_by_name("mixture_of_memories", 64, 1, 16).memory.head_size == 16
    taylor = layer_by_name("prefix_linear_attention-causal", 64, 1, 16)
    assert taylor.feature_size == 4
    assert layer_by_name("delta_net", 64, 1) == layer_by_name("delta_net", 64, 1, None)
    assert layer_by_name("delta_net", 64, 1).head_size is None


def test_a_layer_from_outside_is_compared_like_any_other(tmp_path, monkeypatch):
    text = (
        "from memzoo.models.delta_net import DeltaNetConfig\n"
        "class MineConfig(DeltaNetConfig):\n    family = 'delta rule'\n"
        "Nothing = int\n"
    )
    (tmp_path / "layer_compared_here.py").write_text(text)
    found = compared_layer(f"{tmp_path}/layer_compared_here.py:MineConfig")
    assert found.name == "layer_compared_here:MineConfig"
    assert found.folder == "layer_compared_here.MineConfig"
    assert compared_layer(found.name) == found
    layer = found.config(16, 2)
    assert (type(layer).__name__, layer.num_heads) == ("MineConfig", 2)
    assert layer.convolution_size == 4
    assert not found.reads_prefix(16, 2)
    for name, said in (
        ("layer_compared_here:Missing", "has no Missing"),
        ("layer_compared_here:Nothing", "is not a config"),
        ("layer_compared_here:MineConfig-whole", "layer .* is not known"),
        ("no_such_module:MineConfig", "cannot be imported"),
        ("no_such_file.py:MineConfig", "no_such_file.py is not a Python file"),
        ("memzoo.data.mqar:MqarConfig", "is not a layer; name the config of one"),
    ):
        with pytest.raises(MemzooError, match=said):
            compared_layer(name)
