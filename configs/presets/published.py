"""Models in the sizes of papers, to describe and compile, or to train on your own data.

The data here are the bytes of Python's standard library, so that the presets build
anywhere; vocabulary, batch, length and steps are the paper's.
"""

from ...data.text import TextConfig
from ...models.block import Group
from ...models.gated_delta_net import GatedDeltaNetConfig
from ...models.language_model import LanguageModelConfig
from ...models.mixture_of_memories import MixtureOfMemoriesConfig
from ..experiment import ExperimentConfig, OptimizerConfig


def _mixture_of_memories(
    name: str, *, width: int, batch_size: int, tokens: float
) -> ExperimentConfig:
    """Return 24 blocks with heads of 256 and 4 memories, 2 of them active, plus one
    shared."""
    length = 2048
    memory = GatedDeltaNetConfig(num_heads=width // 256, value_ratio=1)
    return ExperimentConfig(
        name=name,
        model=LanguageModelConfig(
            vocab_size=32000,
            width=width,
            pattern=(
                Group(layers=(MixtureOfMemoriesConfig(memory=memory),), repeats=24),
            ),
            mlp_width=2 * width,
            dtype="bfloat16",
            remat="full",
        ),
        task=TextConfig(length=length),
        optimizer=OptimizerConfig(
            learning_rate=3e-4, warmup_steps=1000, weight_decay=0.01
        ),
        steps=round(tokens / (batch_size * length)),
        batch_size=batch_size,
        checkpoint_every=1000,
    )


def text_mixture_of_memories_380m() -> ExperimentConfig:
    """memzoo train text-mixture-of-memories-380m: as published; not run"""
    name = "text-mixture-of-memories-380m"
    return _mixture_of_memories(name, width=1024, batch_size=256, tokens=15e9)


def text_mixture_of_memories_1300m() -> ExperimentConfig:
    """memzoo train text-mixture-of-memories-1300m: as published; not run"""
    name = "text-mixture-of-memories-1300m"
    return _mixture_of_memories(name, width=2048, batch_size=1024, tokens=100e9)


PRESETS = {
    "text-mixture-of-memories-380m": text_mixture_of_memories_380m,
    "text-mixture-of-memories-1300m": text_mixture_of_memories_1300m,
}
