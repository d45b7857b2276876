"""Needle in a haystack: trained at 256 tokens, to be read far beyond.

The model is that of the recall presets: two blocks without MLP, one head, a memory of
width x width. `memzoo recall --task needle` compares layers at every length, `memzoo
eval RUN --lengths 256,1024,4096` measures one run. Results: seed 0, a 2-core CPU; the
second number is the share of value tokens right at 16,384 tokens (docs/log.md).
"""

import dataclasses

from ...data.needle import NeedleConfig
from ...models import LayerConfig
from ..experiment import ExperimentConfig
from .mqar import comparable_layer, mqar_experiment, with_window


def needle_experiment(
    layer: LayerConfig,
    name: str,
    *,
    task: NeedleConfig | None = None,
    width: int = 64,
    depth: int = 2,
    learning_rate: float = 1e-2,
    steps: int = 1500,
) -> ExperimentConfig:
    """Return an experiment of a layer on the needle: `depth` blocks without MLP."""
    task = NeedleConfig() if task is None else task
    experiment = mqar_experiment(
        layer,
        name,
        task=task,
        width=width,
        depth=depth,
        learning_rate=learning_rate,
        steps=steps,
    )
    return dataclasses.replace(experiment, batch_size=32)


def _preset(layer: str) -> ExperimentConfig:
    """Return the experiment of a registered layer; windows are a quarter of a row."""
    name = f"needle-{layer.replace('_', '-')}"
    return needle_experiment(with_window(comparable_layer(layer, 64), 64), name)


def needle_attention() -> ExperimentConfig:
    """memzoo train needle-attention: 0.999 after 200 steps; 0.22"""
    return _preset("attention")


def needle_mamba2() -> ExperimentConfig:
    """memzoo train needle-mamba2 --steps 400: 0.626; 0.02"""
    return _preset("mamba2")


def needle_gated_delta_net() -> ExperimentConfig:
    """memzoo train needle-gated-delta-net: 0.993 after 200 steps; 0.98"""
    return _preset("gated_delta_net")


def needle_titans_lmm() -> ExperimentConfig:
    """memzoo train needle-titans-lmm --steps 400: 0.996 after 300 steps; 0.91"""
    return _preset("titans_lmm")


def needle_titans_mag() -> ExperimentConfig:
    """memzoo train needle-titans-mag --steps 400: 0.019, chance; a window of 64"""
    return _preset("titans_mag")


PRESETS = {
    "needle-attention": needle_attention,
    "needle-mamba2": needle_mamba2,
    "needle-gated-delta-net": needle_gated_delta_net,
    "needle-titans-lmm": needle_titans_lmm,
    "needle-titans-mag": needle_titans_mag,
}
