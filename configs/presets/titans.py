"""Titans in the sizes of papers, to describe and compile, or to train on your own data.

Layers and widths of 170M, 340M and 760M are those that the same group published for
ATLAS (arXiv 2505.23735), 16 heads each; 400M has a wider MLP than 340M. Length, batch,
tokens, learning rate and vocabulary are those of Titans (arXiv 2501.00663); the warm-up
is not published. Neither paper gives the width of the MLP; here it brings every model
to the size in its name. The data here are the bytes of Python's standard library, so
that the presets build anywhere.
"""

from collections.abc import Callable
from typing import NamedTuple

from ...data.text import TextConfig
from ...models import LayerConfig
from ...models.block import Group
from ...models.language_model import LanguageModelConfig
from ...models.sliding_window_attention import SlidingWindowAttentionConfig
from ...models.titans_lmm import TitansLMMConfig
from ...models.titans_mac import TitansMACConfig
from ...models.titans_mag import TitansMAGConfig
from ...models.titans_mal import TitansMALConfig
from ..experiment import ExperimentConfig, OptimizerConfig

HEADS = 16


class Size(NamedTuple):
    """Dimensions of a model size.

    Attributes:
        tokens: training tokens in the paper.
        mlp_width: MLP width by kind of layer.
    """

    width: int
    depth: int
    tokens: float
    mlp_width: dict[str, int]


SIZES = {
    "170m": Size(768, 12, 15e9, {"lmm": 3840, "mac": 2560, "mag": 3072, "mal": 3072}),
    "340m": Size(1024, 24, 15e9, {"lmm": 2240, "mac": 576, "mag": 1216, "mal": 1216}),
    "400m": Size(1024, 24, 15e9, {"lmm": 3072, "mac": 1344, "mag": 2048, "mal": 2048}),
    "760m": Size(1536, 24, 30e9, {"lmm": 3584, "mac": 1024, "mag": 2048, "mal": 2048}),
}


def layer_of(kind: str) -> LayerConfig:
    """Return the layer of every size; next to attention, the memory has no gate."""
    if kind == "lmm":
        return TitansLMMConfig(num_heads=HEADS)
    if kind == "mac":
        memory = TitansLMMConfig(
            num_heads=HEADS, output_gate=False, persistent_tokens=0
        )
        return TitansMACConfig(memory=memory, num_heads=HEADS, segment_size=512)
    memory = TitansLMMConfig(num_heads=HEADS, output_gate=False)
    attention = SlidingWindowAttentionConfig(
        num_heads=HEADS, window=2048, persistent_tokens=4
    )
    hybrid = TitansMAGConfig if kind == "mag" else TitansMALConfig
    return hybrid(memory=memory, attention=attention)


def _preset(kind: str, size: str) -> Callable[[], ExperimentConfig]:
    name = f"text-titans-{kind}-{size}"
    chosen = SIZES[size]
    length, batch_size = 4096, 128

    def make() -> ExperimentConfig:
        return ExperimentConfig(
            name=name,
            model=LanguageModelConfig(
                vocab_size=32000,
                width=chosen.width,
                pattern=(Group(layers=(layer_of(kind),), repeats=chosen.depth),),
                mlp_width=chosen.mlp_width[kind],
                dtype="bfloat16",
                remat="full",
            ),
            task=TextConfig(length=length),
            optimizer=OptimizerConfig(learning_rate=4e-4, warmup_steps=1000),
            steps=round(chosen.tokens / (batch_size * length)),
            batch_size=batch_size,
            gradient_accumulation=16,
            checkpoint_every=1000,
        )

    make.__doc__ = f"memzoo train {name}: described and compiled, not trained"
    return make


PRESETS = {
    f"text-titans-{kind}-{size}": _preset(kind, size)
    for size in SIZES
    for kind in ("lmm", "mac", "mag", "mal")
}
