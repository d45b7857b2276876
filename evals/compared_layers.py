"""Layers of a comparison by name: registered, from outside, or with a part removed.

A sweep treats `titans_lmm-no_momentum` as one more layer. Some variants are baselines
of a layer: `mixture_of_memories-plain`; `gated_delta_net-prefix`, which reads a prefix;
`prefix_linear_attention-causal`, the same layer and state without a prefix.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from dataclasses import fields as fields_of
from typing import Any

from flax import nnx

from memzoo.errors import InputError

from ..configs.outside import import_typed
from ..configs.presets.mqar import comparable_layer
from ..configs.serialise import near
from ..configs.variants import with_fields
from ..models import LAYERS, LayerConfig
from ..models.field_types import sort_of

WHOLE = "whole"


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """Variants of a layer, each with one part removed.

    Attributes:
        whole: fields of the complete layer, where they differ from the layer that
            recall compares with others.
        without: fields that each variant changes.
        beside: variants that are other layers: the layer's name and its fields.

    A dot names a field of an inner layer: `memory.head_size`.
    """

    whole: Mapping[str, Any] = field(default_factory=dict)
    without: Mapping[str, Mapping[str, Any]]
    beside: Mapping[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)


ABLATIONS: dict[str, Ablation] = {
    # The variants of table 5 of arXiv 2501.00663, with a deep memory.
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
    # Choices that equations 21 to 25 and 29 to 31 leave open, or make differently.
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
    # The variants of tables 6 and 7 of arXiv 2502.13685. Each memory is so small that
    # one of them cannot hold 16 pairs. Three single memories of the same rule: as large
    # as one of them; as large as all of them, with longer values (as in the paper); and
    # with as many bytes as their whole state, with longer keys and values (which suits
    # the rule better).
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
    """Return the names of a layer's ablation: the whole, the variants, the other
    layers.

    Raises:
        InputError: the layer has no ablation.
    """
    if layer not in ABLATIONS:
        raise InputError(f"ablate is {layer!r}; no ablation{near(layer, ABLATIONS)}")
    ablation = ABLATIONS[layer]
    names = (WHOLE, *ablation.without, *ablation.beside)
    return tuple(f"{layer}-{name}" for name in names)


@dataclass(frozen=True, kw_only=True)
class ComparedLayer:
    """Layer of a comparison, as the command line names it.

    Attributes:
        name: name in rows and folders. A layer from outside is `module:Class`.
        base: name of the layer that this one is a variant of.
        kind: config class of `base`.
        fields: fields of `base` that the variant changes.
        causal: whether the layer reads no prefix although it accepts one.
    """

    name: str
    base: str
    kind: type[Any]
    fields: Mapping[str, Any] = field(default_factory=dict)
    causal: bool = False

    def config(
        self, width: int, num_heads: int, head_size: int | None = None
    ) -> LayerConfig:
        """Return the config of the layer, in the size that recall compares."""
        layer = comparable_layer(self.kind, width, num_heads, head_size)
        return with_fields(layer, self.fields)

    def reads_prefix(
        self, width: int, num_heads: int, head_size: int | None = None
    ) -> bool:
        """Return whether the layer reads the given tokens non-causally."""
        layer = self.config(width, num_heads, head_size)
        return not self.causal and _accepts_prefix(layer, width)

    @property
    def folder(self) -> str:
        """Return the name of the layer's folder in the sweep's folder."""
        return self.name.replace(":", ".")

    @property
    def sets_head_size(self) -> bool:
        """Return whether the variant sets the head size."""
        return any(name.endswith("head_size") for name in self.fields)


@functools.cache
def compared_layer(text: str) -> ComparedLayer:
    """Return the layer or variant with this name.

    Args:
        text: a registered name, `module:Class` or `file.py:Class`, and for a variant a
            dash and its name: `titans_lmm-no_momentum`.

    Raises:
        MemzooError: there is no such layer or variant.
    """
    outer, colon, inner = text.rpartition(":")
    base, dash, variant = inner.partition("-")
    kind: Any = LAYERS.get(base)
    if colon:
        base, kind = import_typed(f"{outer}:{base}", "layers")
        if sort_of(kind) != "layer":
            raise InputError(f"layer {text!r} is not a layer; name the config of one")
    if kind is not None and not dash:
        return ComparedLayer(name=base, base=base, kind=kind)
    found = {} if kind is None else _variants(base, kind)
    name = f"{base}{dash}{variant}"
    if name not in found:
        # Suggest variants for a misspelt variant, and layers for a misspelt layer.
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
    """Return whether the layer accepts a prefix, without allocating it."""
    built = nnx.eval_shape(
        lambda: layer.build(width, nnx.Rngs(0), layer_index=0, depth=1)
    )
    return built.accepts_prefix


def ablation_text(layer: str) -> str:
    """Return a description of a layer's variants, in one or two sentences."""

    def listed(fields: Mapping[str, Any]) -> str:
        return ", ".join(f"{name} {value}" for name, value in fields.items())

    ablation = ABLATIONS[layer]
    without = [f"{n} ({listed(fields)})" for n, fields in ablation.without.items()]
    whole = listed(ablation.whole) or "its default fields"
    text = (
        f"{layer}-{WHOLE} has {whole}; each other variant changes one thing: "
        f"{', '.join(without)}."
    )
    if not ablation.beside:
        return text
    beside = [
        f"{n} ({base} with {listed(f)})" for n, (base, f) in ablation.beside.items()
    ]
    return f"{text} Other layers: {', '.join(beside)}."
