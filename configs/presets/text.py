"""Language models over bytes of Python's standard library; no network needed."""

from ...data.text import TextConfig
from ...models.attention import AttentionConfig
from ...models.block import Group
from ...models.gated_delta_net import GatedDeltaNetConfig
from ...models.language_model import LanguageModelConfig
from ...models.mamba2 import Mamba2Config
from ...models.mixture_of_memories import MixtureOfMemoriesConfig
from ...models.sliding_window_attention import SlidingWindowAttentionConfig
from ...models.titans_lmm import TitansLMMConfig
from ...models.titans_mac import TitansMACConfig
from ...models.titans_mag import TitansMAGConfig
from ...models.titans_mal import TitansMALConfig
from ..experiment import ExperimentConfig, OptimizerConfig


def _text(
    name: str, pattern: tuple[Group, ...], *, width: int = 128, length: int = 256
) -> ExperimentConfig:
    task = TextConfig(length=length)
    return ExperimentConfig(
        name=name,
        # Rounded up so that the vocabulary can be split over devices.
        model=LanguageModelConfig(
            vocab_size=-(-task.vocab_size // 64) * 64,
            width=width,
            pattern=pattern,
            mlp_width=2 * width,
        ),
        task=task,
        optimizer=OptimizerConfig(learning_rate=4e-3, warmup_steps=100),
        steps=1000,
        batch_size=16,
        evaluation_examples=128,
        checkpoint_every=200,
    )


def text_gated_delta_net() -> ExperimentConfig:
    """memzoo train text-gated-delta-net: 1.79 bits per byte after 1000 steps"""
    layer = GatedDeltaNetConfig(num_heads=4, value_ratio=1)
    return _text("text-gated-delta-net", (Group(layers=(layer,), repeats=4),))


def text_attention() -> ExperimentConfig:
    """memzoo train text-attention: 1.89 bits per byte after 1000 steps"""
    layer = AttentionConfig(num_heads=4)
    return _text("text-attention", (Group(layers=(layer,), repeats=4),))


def text_mamba2() -> ExperimentConfig:
    """memzoo train text-mamba2: 1.79 bits per byte after 1000 steps"""
    layer = Mamba2Config(head_size=32, state_size=32, expand=1)
    return _text("text-mamba2", (Group(layers=(layer,), repeats=4),))


def text_hybrid() -> ExperimentConfig:
    """memzoo train text-hybrid: 1.83 bits per byte after 1000 steps; with windows"""
    layers = (
        GatedDeltaNetConfig(num_heads=4, value_ratio=1),
        SlidingWindowAttentionConfig(num_heads=4, window=64),
    )
    return _text("text-hybrid", (Group(layers=layers, repeats=2),))


def text_mixture_of_memories() -> ExperimentConfig:
    """memzoo train text-mixture-of-memories: 1.89 bits per byte after 1000 steps

    On an H100.
    """
    layer = MixtureOfMemoriesConfig(
        memory=GatedDeltaNetConfig(num_heads=4, value_ratio=1)
    )
    return _text("text-mixture-of-memories", (Group(layers=(layer,), repeats=4),))


def text_titans_lmm() -> ExperimentConfig:
    """memzoo train text-titans-lmm: 1.87 bits per byte after 1000 steps, on an H100"""
    layer = TitansLMMConfig()
    return _text("text-titans-lmm", (Group(layers=(layer,), repeats=4),))


def text_titans_mac() -> ExperimentConfig:
    """memzoo train text-titans-mac: not run to its end yet; segments of 64"""
    layer = TitansMACConfig()
    return _text("text-titans-mac", (Group(layers=(layer,), repeats=4),))


def text_titans_mag() -> ExperimentConfig:
    """memzoo train text-titans-mag: not run to its end yet; windows of 64"""
    layer = TitansMAGConfig()
    return _text("text-titans-mag", (Group(layers=(layer,), repeats=4),))


def text_titans_mal() -> ExperimentConfig:
    """memzoo train text-titans-mal: not run to its end yet; windows of 64"""
    layer = TitansMALConfig()
    return _text("text-titans-mal", (Group(layers=(layer,), repeats=4),))


PRESETS = {
    "text-gated-delta-net": text_gated_delta_net,
    "text-attention": text_attention,
    "text-mamba2": text_mamba2,
    "text-hybrid": text_hybrid,
    "text-mixture-of-memories": text_mixture_of_memories,
    "text-titans-lmm": text_titans_lmm,
    "text-titans-mac": text_titans_mac,
    "text-titans-mag": text_titans_mag,
    "text-titans-mal": text_titans_mal,
}
