"""Just read twice (arXiv 2407.05483): the published stacks, and a small one over bytes.

One gated short convolution comes first, then cycles of prefix linear attention, a
window of attention and gated short convolutions. The published models read 2,048 tokens
of the Pile, 1,024 of them a prefix; here they read bytes with the published vocabulary.
Of the published 273 Taylor features, 153 remain, which compute the same function.
"""

from ...data.prefix import PrefixConfig
from ...data.set_disjointness import SetDisjointnessConfig
from ...data.text import TextConfig
from ...models import LayerConfig
from ...models.block import Group
from ...models.gated_short_convolution import GatedShortConvolutionConfig
from ...models.language_model import LanguageModelConfig
from ...models.prefix_linear_attention import PrefixLinearAttentionConfig
from ...models.sliding_window_attention import SlidingWindowAttentionConfig
from ..experiment import ExperimentConfig, OptimizerConfig

# 50,257 tokens of GPT-2 and the mask; 50,263 in the public code.
_VOCABULARY = 50_264


def jrt_layers(
    convolutions: int,
    *,
    num_heads: int,
    window: int,
) -> tuple[LayerConfig, ...]:
    """Return a prefix layer, a window and some convolutions."""
    return (
        PrefixLinearAttentionConfig(num_heads=num_heads),
        SlidingWindowAttentionConfig(num_heads=num_heads, window=window),
        *[GatedShortConvolutionConfig() for _ in range(convolutions)],
    )


def _published(
    name: str, width: int, pattern: tuple[Group, ...], *, steps: int, warmup_steps: int
) -> ExperimentConfig:
    return ExperimentConfig(
        name=name,
        model=LanguageModelConfig(
            vocab_size=_VOCABULARY,
            width=width,
            pattern=pattern,
            mlp_width=2 * width,
            dtype="bfloat16",
            remat="full",
        ),
        task=PrefixConfig(task=TextConfig(length=2048), share=0.5),
        optimizer=OptimizerConfig(
            learning_rate=8e-4, final_fraction=0.1, warmup_steps=warmup_steps
        ),
        steps=steps,
        batch_size=256,
        # 8 rows at a time, as published for each GPU.
        gradient_accumulation=32,
        checkpoint_every=1000,
    )


def text_jrt_360m() -> ExperimentConfig:
    """memzoo train text-jrt-360m: described and compiled, not trained; 26 layers"""
    layers = jrt_layers(3, num_heads=16, window=256)
    pattern = (
        Group(layers=layers[-1:]),
        Group(layers=layers, repeats=5),
    )
    return _published("text-jrt-360m", 1024, pattern, steps=60_000, warmup_steps=600)


def text_jrt_1b3() -> ExperimentConfig:
    """memzoo train text-jrt-1b3: described and compiled, not trained; 36 layers"""
    layers = jrt_layers(4, num_heads=16, window=256)
    pattern = (
        Group(layers=layers[-1:]),
        Group(layers=layers[:-1], repeats=4),
        Group(layers=layers, repeats=2),
        Group(layers=layers[:3]),
    )
    return _published("text-jrt-1b3", 1792, pattern, steps=100_000, warmup_steps=1000)


def text_jrt() -> ExperimentConfig:
    """memzoo train text-jrt: 2.02 bits per byte after 1000 steps; half is a prefix"""
    layers = jrt_layers(2, num_heads=4, window=64)
    # With masks in every row, the model depends on them: 2.70 bits per byte without.
    task = PrefixConfig(task=TextConfig(length=256), share=0.5, mask_rows=0.5)
    return ExperimentConfig(
        name="text-jrt",
        model=LanguageModelConfig(
            # Rounded up so that the vocabulary can be split over devices.
            vocab_size=-(-task.vocab_size // 64) * 64,
            width=128,
            pattern=(Group(layers=layers),),
            mlp_width=256,
        ),
        task=task,
        optimizer=OptimizerConfig(learning_rate=4e-3, warmup_steps=100),
        steps=1000,
        batch_size=16,
        evaluation_examples=128,
        checkpoint_every=200,
    )


def disjointness_experiment(
    name: str,
    *,
    prefix: bool,
    task: SetDisjointnessConfig | None = None,
    width: int = 64,
    feature_size: int = 16,
    num_heads: int = 2,
    learning_rate: float = 3e-3,
    steps: int = 3000,
) -> ExperimentConfig:
    """Return set disjointness with convolutions and prefix layers, with or without a
    prefix.

    Both have the same layers and states; without a prefix they read causally.
    """
    task = SetDisjointnessConfig() if task is None else task
    layers = (
        GatedShortConvolutionConfig(),
        PrefixLinearAttentionConfig(num_heads=num_heads, feature_size=feature_size),
    )
    return ExperimentConfig(
        name=name,
        model=LanguageModelConfig(
            vocab_size=task.vocab_size,
            width=width,
            pattern=(Group(layers=layers, repeats=2),),
            mlp_width=2 * width,
        ),
        task=PrefixConfig(task=task, mask_share=0.0) if prefix else task,
        optimizer=OptimizerConfig(learning_rate=learning_rate, warmup_steps=100),
        steps=steps,
        batch_size=64,
        evaluate_every=200,
        stop_at_accuracy=0.99,
        log_every=20,
        checkpoint_every=500,
    )


def set_disjointness_linear_attention() -> ExperimentConfig:
    """memzoo train set-disjointness-linear-attention: 0.900 after 3000 steps"""
    return disjointness_experiment("set-disjointness-linear-attention", prefix=False)


def set_disjointness_prefix_linear_attention() -> ExperimentConfig:
    """memzoo train set-disjointness-prefix-linear-attention: 0.949 after 3000 steps"""
    name = "set-disjointness-prefix-linear-attention"
    return disjointness_experiment(name, prefix=True)


PRESETS = {
    "text-jrt": text_jrt,
    "text-jrt-360m": text_jrt_360m,
    "text-jrt-1b3": text_jrt_1b3,
    "set-disjointness-linear-attention": set_disjointness_linear_attention,
    "set-disjointness-prefix-linear-attention": (
        set_disjointness_prefix_linear_attention
    ),
}
