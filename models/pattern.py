"""Patterns from lists of layers."""

from collections.abc import Sequence
from typing import Any

from memzoo.errors import InputError, name_to_use, shown

from . import LAYERS
from .block import Group
from .layer_config import LayerConfig


def pattern_of(layers: Sequence[str | LayerConfig]) -> tuple[Group, ...]:
    """Return the groups for a stack of these layers, first to last.

    Repeats share one compiled program. If the whole list repeats a unit, the shortest
    unit is one group; otherwise each run of equal layers is a group.

    Args:
        layers: configs, or registered names for default configs.

    Raises:
        InputError: the list is empty or none, or has an unknown layer.
    """
    if isinstance(layers, str) or not isinstance(layers, Sequence):
        raise InputError(f"layers is {shown(layers)}; give a list of layers")
    chosen = tuple(map(_layer, layers))
    if not chosen:
        raise InputError("layers is empty; give at least one layer")
    for size in range(1, len(chosen) // 2 + 1):
        unit, repeats = chosen[:size], len(chosen) // size
        if unit * repeats == chosen:
            return (Group(layers=unit, repeats=repeats),)
    groups: list[Group] = []
    for layer in chosen:
        if groups and groups[-1].layers == (layer,):
            repeats = groups.pop().repeats + 1
        else:
            repeats = 1
        groups.append(Group(layers=(layer,), repeats=repeats))
    return tuple(groups)


def _layer(layer: Any) -> LayerConfig:
    if not isinstance(layer, str):
        if isinstance(layer, type) or not isinstance(layer, LayerConfig):
            raise InputError(
                f"layers has {shown(layer)}; give the name of a layer, such as "
                "'attention', or a config, such as memzoo.layers.AttentionConfig()"
            )
        return layer
    if layer in LAYERS:
        return LAYERS[layer]()
    raise InputError(f"there is no layer {layer!r}; {name_to_use(layer, LAYERS)}")
