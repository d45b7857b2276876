"""Multi-query associative recall: every layer in the same small model.

The model is the one of the comparison: two blocks without MLP, one head, short
convolutions of 4 taps on queries, keys and values, and a memory of width x width;
docs/decisions/0004 says what is equal and what is not. Results: seed 0, a 2-core CPU.
"""

import dataclasses
from typing import Any

from ...data.mqar import MqarConfig
from ...data.prefix import PrefixConfig
from ...data.task import Config
from ...models import LAYERS, LayerConfig
from ...models.block import Group
from ...models.language_model import LanguageModelConfig
from ...models.ops.feature_maps import taylor_size
from ..experiment import ExperimentConfig, OptimizerConfig

# What makes layers comparable, where they have such a field.
_COMPARABLE = {
    "convolution_size": 4,
    "value_ratio": 1,
    "expand": 1,
    "output_gate": False,
    # One head: a published draw may forget within two tokens (docs/layers).
    "fastest_decay": 0.1,
    # One matrix, written by steps that are large enough for what is seen once.
    "memory_depth": 1,
    "max_learning_rate": 0.5,
    "clip": None,
}
_INNER = ("memory", "attention")


def comparable_layer(
    layer: str | type[Any], width: int, num_heads: int = 1, head_size: int | None = None
) -> LayerConfig:
    """Return a layer with one size of memory for all, and so the layers that it holds.

    Args:
        layer: a registered name, or the config class of a layer from outside. Fields
            that it does not have are left out.
        width: size of the residual stream.
        num_heads: heads of each layer.
        head_size: of keys; None: the width over the heads.
    """
    kind = LAYERS[layer] if isinstance(layer, str) else layer
    return _comparable(kind(), width, num_heads, head_size)


def _comparable(layer: Any, width: int, num_heads: int, head_size: int | None) -> Any:
    fields = {field.name for field in dataclasses.fields(layer)}
    chosen = {**_COMPARABLE, "num_heads": num_heads}
    values = {field: value for field, value in chosen.items() if field in fields}
    key_size = width // num_heads if head_size is None else head_size
    if "feature_size" in fields:
        # Of Taylor features: the number nearest to the size of a head.
        values["feature_size"] = min(
            range(1, width + 1),
            key=lambda size: abs(taylor_size(size) - key_size),
        )
    for inner in _INNER:
        if inner in fields:
            own = getattr(layer, inner)
            values[inner] = _comparable(own, width, num_heads, head_size)
    if {"segment_size", "memory"} <= fields:
        # Its attention reads the memory that it writes; training was unstable without.
        values["memory"] = dataclasses.replace(values["memory"], clip=layer.memory.clip)
    if "expand" in fields:
        # Its heads share their keys, and its values are as wide as the model.
        values |= {"head_size": width // num_heads, "state_size": key_size}
    elif head_size is not None and "head_size" in fields:
        values["head_size"] = head_size
    return dataclasses.replace(layer, **values)


def with_window(layer: Any, window: int) -> Any:
    """The layer whose attention sees `window` tokens, where it sees a part of them.

    A segment of tokens that see each other is a window too; the memory's windows of
    writes are no longer than it.
    """
    fields = {field.name for field in dataclasses.fields(layer)}
    values = {name: window for name in ("window", "segment_size") if name in fields}
    if "attention" in fields:
        values["attention"] = with_window(layer.attention, window)
    if {"segment_size", "memory"} <= fields:
        every = min(layer.memory.update_every, window)
        values["memory"] = dataclasses.replace(layer.memory, update_every=every)
    return dataclasses.replace(layer, **values) if values else layer


def mqar_experiment(
    layer: LayerConfig,
    name: str,
    *,
    task: Config | None = None,
    width: int = 64,
    depth: int = 2,
    learning_rate: float = 1e-2,
    steps: int = 1500,
) -> ExperimentConfig:
    """A layer on recall: `depth` blocks without MLP."""
    chosen: Any = MqarConfig() if task is None else task
    return ExperimentConfig(
        name=name,
        model=LanguageModelConfig(
            vocab_size=chosen.vocab_size,
            width=width,
            pattern=(Group(layers=(layer,), repeats=depth),),
        ),
        task=chosen,
        optimizer=OptimizerConfig(learning_rate=learning_rate, warmup_steps=50),
        steps=steps,
        batch_size=64,
        evaluate_every=100,
        stop_at_accuracy=0.99,
        log_every=20,
        checkpoint_every=500,
    )


def mqar_attention() -> ExperimentConfig:
    """memzoo train mqar-attention: 1.000 after 300 steps"""
    layer = comparable_layer("attention", 64)
    return mqar_experiment(layer, "mqar-attention")


def mqar_sliding_window_attention() -> ExperimentConfig:
    """memzoo train mqar-sliding-window-attention: 0.070, chance, after 1500 steps"""
    layer = with_window(comparable_layer("sliding_window_attention", 64), 16)
    return mqar_experiment(layer, "mqar-sliding-window-attention")


def mqar_linear_attention() -> ExperimentConfig:
    """memzoo train mqar-linear-attention: 0.067, chance, after 1500 steps"""
    layer = comparable_layer("linear_attention", 64)
    return mqar_experiment(layer, "mqar-linear-attention")


def mqar_retnet() -> ExperimentConfig:
    """memzoo train mqar-retnet: 0.991 after 1200 steps"""
    return mqar_experiment(comparable_layer("retnet", 64), "mqar-retnet")


def mqar_mamba2() -> ExperimentConfig:
    """memzoo train mqar-mamba2: 0.991 after 700 steps"""
    return mqar_experiment(comparable_layer("mamba2", 64), "mqar-mamba2")


def mqar_delta_net() -> ExperimentConfig:
    """memzoo train mqar-delta-net: 0.991 after 400 steps"""
    return mqar_experiment(comparable_layer("delta_net", 64), "mqar-delta-net")


def mqar_gated_delta_net() -> ExperimentConfig:
    """memzoo train mqar-gated-delta-net: 0.992 after 500 steps"""
    layer = comparable_layer("gated_delta_net", 64)
    return mqar_experiment(layer, "mqar-gated-delta-net")


def mqar_gated_short_convolution() -> ExperimentConfig:
    """memzoo train mqar-gated-short-convolution: 0.002 after 1500 steps; no memory"""
    layer = comparable_layer("gated_short_convolution", 64)
    return mqar_experiment(layer, "mqar-gated-short-convolution")


def mqar_prefix_linear_attention() -> ExperimentConfig:
    """memzoo train mqar-prefix-linear-attention: 0.991 after 500 steps; pairs first"""
    layer = comparable_layer("prefix_linear_attention", 64)
    task = PrefixConfig(task=MqarConfig(), mask_share=0.0)
    return mqar_experiment(layer, "mqar-prefix-linear-attention", task=task)


def mqar_prefix_attention() -> ExperimentConfig:
    """memzoo train mqar-prefix-attention: 0.998 after 500 steps; pairs first"""
    layer = comparable_layer("prefix_attention", 64)
    task = PrefixConfig(task=MqarConfig(), mask_share=0.0)
    return mqar_experiment(layer, "mqar-prefix-attention", task=task)


def mqar_mixture_of_memories() -> ExperimentConfig:
    """memzoo train mqar-mixture-of-memories: 0.992 after 400 steps; 4, one shared

    Memories of gated_delta_net; each has the size that other layers have in all.
    """
    layer = comparable_layer("mixture_of_memories", 64)
    return mqar_experiment(layer, "mqar-mixture-of-memories")


def mqar_titans_lmm() -> ExperimentConfig:
    """memzoo train mqar-titans-lmm: 0.993 after 400 steps; a linear memory

    A deep one, with memory_depth 2, memory_expansion 2 and clip 1.0: 0.992 after 400
    of 1,000 steps; without the clip it is not finite at step 4.
    """
    return mqar_experiment(comparable_layer("titans_lmm", 64), "mqar-titans-lmm")


def mqar_titans_mac() -> ExperimentConfig:
    """memzoo train mqar-titans-mac: 0.993 after 500 steps; not with seed 2"""
    layer = with_window(comparable_layer("titans_mac", 64), 16)
    return mqar_experiment(layer, "mqar-titans-mac")


def mqar_titans_mag() -> ExperimentConfig:
    """memzoo train mqar-titans-mag: 0.993 after 400 steps; a window of 16"""
    layer = with_window(comparable_layer("titans_mag", 64), 16)
    return mqar_experiment(layer, "mqar-titans-mag")


def mqar_titans_mal() -> ExperimentConfig:
    """memzoo train mqar-titans-mal: 0.992 after 900 steps; not with seed 2"""
    layer = with_window(comparable_layer("titans_mal", 64), 16)
    return mqar_experiment(layer, "mqar-titans-mal")


def mqar_ttt_linear() -> ExperimentConfig:
    """memzoo train mqar-ttt-linear: 0.995 after 600 steps"""
    layer = comparable_layer("ttt_linear", 64)
    return mqar_experiment(layer, "mqar-ttt-linear", learning_rate=3e-3)


def mqar_ttt_mlp() -> ExperimentConfig:
    """memzoo train mqar-ttt-mlp: 0.993 after 1200 steps, on an H100"""
    layer = comparable_layer("ttt_mlp", 64)
    return mqar_experiment(layer, "mqar-ttt-mlp", learning_rate=3e-3)


PRESETS = {
    "mqar-attention": mqar_attention,
    "mqar-sliding-window-attention": mqar_sliding_window_attention,
    "mqar-linear-attention": mqar_linear_attention,
    "mqar-retnet": mqar_retnet,
    "mqar-mamba2": mqar_mamba2,
    "mqar-delta-net": mqar_delta_net,
    "mqar-gated-delta-net": mqar_gated_delta_net,
    "mqar-gated-short-convolution": mqar_gated_short_convolution,
    "mqar-prefix-linear-attention": mqar_prefix_linear_attention,
    "mqar-prefix-attention": mqar_prefix_attention,
    "mqar-mixture-of-memories": mqar_mixture_of_memories,
    "mqar-titans-lmm": mqar_titans_lmm,
    "mqar-titans-mac": mqar_titans_mac,
    "mqar-titans-mag": mqar_titans_mag,
    "mqar-titans-mal": mqar_titans_mal,
    "mqar-ttt-linear": mqar_ttt_linear,
    "mqar-ttt-mlp": mqar_ttt_mlp,
}
