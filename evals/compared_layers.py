"""Layers of a comparison by name: registered, from outside, or without a part.

`titans_lmm-no_momentum` is a layer of a sweep like any other. Some variants are what a
layer is measured against: `mixture_of_memories-plain`; `gated_delta_net-prefix`, which
reads a prefix; `prefix_linear_attention-causal`, the same layer and state without one.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from dataclasses import fields as fields_of
from typing import Any

from flax import nnx

from memzoo.errors import InputError

from ..configs.field_types import sort_of
from ..configs.outside import import_typed
from ..configs.presets.mqar import comparable_layer
from ..configs.serialise import near
from ..configs.variants import with_fields
from ..models import LAYERS, LayerConfig

WHOLE = "whole"


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """Parts that are taken away from a layer, one at a time.

    Attributes:
        whole: fields of the layer with all its parts, where it differs from the one
            that recall compares with others.
        without: fields that each variant changes.
        beside: a layer and its fields for each variant that is another layer.

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
    """Return the names of a layer's ablation: the whole, each variant, its neighbours.

    Raises:
        InputError: there is no ablation of the layer.
    """
    if layer not in ABLATIONS:
        raise InputError(f"ablate is {layer!r}; no ablation{near(layer, ABLATIONS)}")
    ablation = ABLATIONS[layer]
    names = (WHOLE, *ablation.without, *ablation.beside)
    return tuple(f"{layer}-{name}" for name in names)


@dataclass(frozen=True, kw_only=True)
class ComparedLayer:
    """A layer of a comparison, as a name on the command line gives it.

    Attributes:
        name: of its rows and folders. A layer from outside is `module:Class`.
        base: name of the layer that it is a variant of.
        kind: config class of `base`.
        fields: what the variant changes in it.
        causal: no prefix is read, although the layer accepts one.
    """

    name: str
    base: str
    kind: type[Any]
    fields: Mapping[str, Any] = field(default_factory=dict)
    causal: bool = False

    def config(
        self, width: int, num_heads: int, head_size: int | None = None
    ) -> LayerConfig:
        """Return the layer, of the size that recall compares."""
        layer = comparable_layer(self.kind, width, num_heads, head_size)
        return with_fields(layer, self.fields)

    def reads_prefix(
        self, width: int, num_heads: int, head_size: int | None = None
    ) -> bool:
        """Return whether the layer reads what is given non-causally."""
        layer = self.config(width, num_heads, head_size)
        return not self.causal and _accepts_prefix(layer, width)

    @property
    def folder(self) -> str:
        """Name of its folder in that of the sweep."""
        return self.name.replace(":", ".")

    @property
    def sets_head_size(self) -> bool:
        """True where the variant sets the size of its heads."""
        return any(name.endswith("head_size") for name in self.fields)


@functools.cache
def compared_layer(text: str) -> ComparedLayer:
    """Return the layer or variant of a name.

    Args:
        text: a registered name, `module:Class` or `file.py:Class`. A variant follows
            behind a dash: `titans_lmm-no_momentum`.

    Raises:
        MemzooError: there is no such layer or variant.
    """
    outer, colon, inner = text.rpartition(":")
    base, dash, variant = inner.partition("-")
    kind: Any = LAYERS.get(base)
    if colon:
        base, kind = import_typed(f"{outer}:{base}", "layers")
        if sort_of(kind) != "layer":
            raise InputError(f"layer {text!r} is no layer; name the config of one")
    if kind is not None and not dash:
        return ComparedLayer(name=base, base=base, kind=kind)
    found = {} if kind is None else _variants(base, kind)
    name = f"{base}{dash}{variant}"
    if name not in found:
        # A misspelt variant is near the others; a misspelt layer is near the layers.
        known = [other for other in found if other != base] or LAYERS
        raise InputError(f"layer {text!r} is not known{near(name, known)}")
    return found[name]


def _variants(base: str, kind: type[Any]) -> dict[str, ComparedLayer]:
    """Return a layer and all its variants by name."""
    plain = ComparedLayer(name=base, base=base, kind=kind)
    found = [plain]

    def add(name: str, **changes: Any) -> None:
        found.append(replace(plain, name=f"{base}-{name}", **changes))

    if base in ABLATIONS:
        ablation = ABLATIONS[base]
        add(WHOLE, fields=ablation.whole)
        for name, fields in ablation.without.items():
            add(name, fields={**ablation.whole, **fields})
        for name, (other, fields) in ablation.beside.items():
            add(name, base=other, kind=LAYERS[other], fields=fields)
    if "prefix" in {each.name for each in fields_of(kind)}:
        add("prefix", fields={"prefix": True})
    elif plain.reads_prefix(16, 1):
        add("causal", causal=True)
    return {each.name: each for each in found}


@functools.lru_cache(maxsize=256)
def _accepts_prefix(layer: LayerConfig, width: int) -> bool:
    """Return whether the layer accepts a prefix; nothing is allocated."""
    built = nnx.eval_shape(
        lambda: layer.build(width, nnx.Rngs(0), layer_index=0, depth=1)
    )
    return built.accepts_prefix


def ablation_text(layer: str) -> str:
    """Return what the variants of a layer are, in a sentence or two."""

    def listed(fields: Mapping[str, Any]) -> str:
        return ", ".join(f"{name} {value}" for name, value in fields.items())

    ablation = ABLATIONS[layer]
    without = [f"{n} ({listed(fields)})" for n, fields in ablation.without.items()]
    whole = listed(ablation.whole) or "its plain fields"
    text = (
        f"{layer}-{WHOLE} has {whole}; the others differ from it in one thing each: "
        f"{', '.join(without)}."
    )
    if not ablation.beside:
        return text
    beside = [
        f"{n} ({base} with {listed(f)})" for n, (base, f) in ablation.beside.items()
    ]
    return f"{text} Beside it: {', '.join(beside)}."
