"""Layers without one of their parts at a time, as names that a sweep takes.

`titans_lmm-no_momentum` is a layer of a sweep like any other. So is what stands beside
a layer to be measured against: `mixture_of_memories-plain`, and
`gated_delta_net-prefix`, with the option that reads a prefix, and
`prefix_linear_attention-causal`, the same layer where it is told of no prefix: of the
same state, it is what reading non-causally is compared with.
"""

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flax import nnx

from memzoo.errors import InputError

from ..configs.presets.mqar import comparable_layer
from ..configs.serialise import near
from ..configs.variants import with_fields
from ..models import LAYERS, LayerConfig

WHOLE = "whole"
PREFIX, CAUSAL = "prefix", "causal"


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """What is taken away from a layer.

    Attributes:
        whole: fields of the layer with all its parts, where it is not the one that
            recall compares with others.
        without: by variant, the fields that are another then.
        beside: by variant, another layer by name, and its fields.

    A field of a layer inside the layer is named with a dot: `memory.head_size`.
    """

    whole: Mapping[str, Any] = field(default_factory=dict)
    without: Mapping[str, Mapping[str, Any]]
    beside: Mapping[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)


ABLATIONS: dict[str, Ablation] = {
    # Those of table 5 of arXiv 2501.00663, from a deep memory.
    "titans_lmm": Ablation(
        whole={"memory_depth": 2, "memory_expansion": 2, "clip": 1.0},
        without={
            "no_momentum": {"momentum": False},
            "no_forgetting": {"forget": False},
            "linear_memory": {"memory_depth": 1},
            "no_convolution": {"convolution_size": 0},
            "no_persistent_tokens": {"persistent_tokens": 0},
        },
    ),
    # Choices that equations 21 to 25 and 29 to 31 leave open, or make otherwise.
    "titans_mac": Ablation(
        without={
            "no_residual": {"residual": False},
            "product_alone": {"add_memory": False},
            "no_clip": {"memory.clip": None},
        },
        beside={"printed": ("titans_mac", {"residual": False, "add_memory": False})},
    ),
    "titans_mal": Ablation(
        without={
            "no_residual": {"residual": False},
            "plain_attention": {"attention.convolution_size": 0},
        },
    ),
    # Those of tables 6 and 7 of arXiv 2502.13685, in memories so small that one of them
    # does not hold 16 pairs; and one memory of the same rule: as large as one of them,
    # as large as all of them by longer values (the paper's), and of as many bytes as
    # their whole state by longer keys and values (which suits the rule better).
    "mixture_of_memories": Ablation(
        whole={"memory.head_size": 16, "balance_scale": 1e-3},
        without={
            "no_shared_memory": {"shared_memory": False},
            "no_balance": {"balance_scale": 0.0},
            "balance_5e3": {"balance_scale": 5e-3},
            "balance_1e2": {"balance_scale": 1e-2},
        },
        beside={
            "plain": ("gated_delta_net", {"head_size": 16}),
            "plain_wide": ("gated_delta_net", {"head_size": 16, "value_ratio": 5}),
            "plain_large": ("gated_delta_net", {"head_size": 38}),
        },
    ),
}


def variants(layer: str) -> tuple[str, ...]:
    """Names of the whole layer, what is left without each part, what stands beside.

    Raises:
        InputError: there is no ablation of it.
    """
    if layer not in ABLATIONS:
        raise InputError(f"ablate is {layer!r}; no ablation{near(layer, ABLATIONS)}")
    ablation = ABLATIONS[layer]
    names = (WHOLE, *ablation.without, *ablation.beside)
    return tuple(f"{layer}-{name}" for name in names)


def check_layer_name(name: str) -> None:
    """The name is that of a registered layer or of a variant.

    Raises:
        InputError: it is not.
    """
    base, dash, _ = name.partition("-")
    known = _variants(base) if dash and base in LAYERS else ()
    known = known or tuple(LAYERS)
    if name not in known:
        raise InputError(f"layer {name!r} is not known{near(name, known)}")


def _variants(base: str) -> tuple[str, ...]:
    """Every variant of a registered layer, by name."""
    own = variants(base) if base in ABLATIONS else ()
    if "prefix" in {field.name for field in dataclasses.fields(LAYERS[base])}:
        own += (f"{base}-{PREFIX}",)
    elif _accepts_prefix(comparable_layer(base, 16), 16):
        own += (f"{base}-{CAUSAL}",)
    return own


def layer_by_name(
    name: str, width: int, num_heads: int, head_size: int | None = None
) -> LayerConfig:
    """The layer or the variant, of a size that recall compares."""
    base, _, variant = name.partition("-")
    size = width, num_heads, head_size
    if variant in ("", CAUSAL):
        return comparable_layer(base, *size)
    if variant == PREFIX:
        return with_fields(comparable_layer(base, *size), {"prefix": True})
    ablation = ABLATIONS[base]
    if variant in ablation.beside:
        base, fields = ablation.beside[variant]
    else:
        fields = {**ablation.whole, **ablation.without.get(variant, {})}
    return with_fields(comparable_layer(base, *size), fields)


def sets_head_size(name: str) -> bool:
    """Whether the variant has heads of a size of its own."""
    base, _, variant = name.partition("-")
    if base not in ABLATIONS or variant in ("", CAUSAL, PREFIX):
        return False
    ablation = ABLATIONS[base]
    fields = {**ablation.whole, **ablation.without.get(variant, {})}
    if variant in ablation.beside:
        _, fields = ablation.beside[variant]
    return any(field.endswith("head_size") for field in fields)


def reads_prefix(
    name: str, width: int, num_heads: int, head_size: int | None = None
) -> bool:
    """Whether the layer or variant reads what is given non-causally."""
    causal = name.partition("-")[2] == CAUSAL
    layer = layer_by_name(name, width, num_heads, head_size)
    return not causal and _accepts_prefix(layer, width)


@functools.lru_cache(maxsize=256)
def _accepts_prefix(layer: LayerConfig, width: int) -> bool:
    """Whether the layer accepts a prefix; nothing is allocated."""
    built = nnx.eval_shape(
        lambda: layer.build(width, nnx.Rngs(0), layer_index=0, depth=1)
    )
    return built.accepts_prefix


def said_of(layer: str) -> str:
    """What the variants of a layer are, in a sentence or two."""

    def listed(fields: Mapping[str, Any]) -> str:
        return ", ".join(f"{name} {value}" for name, value in fields.items())

    ablation = ABLATIONS[layer]
    without = [f"{n} ({listed(fields)})" for n, fields in ablation.without.items()]
    whole = listed(ablation.whole) or "its plain fields"
    said = (
        f"{layer}-{WHOLE} has {whole}; the others differ from it in one thing each: "
        f"{', '.join(without)}."
    )
    if not ablation.beside:
        return said
    beside = [
        f"{n} ({base} with {listed(f)})" for n, (base, f) in ablation.beside.items()
    ]
    return f"{said} Beside it: {', '.join(beside)}."
