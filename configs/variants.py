"""Layers with changed fields, also in their inner layers."""

import ast
import dataclasses
from collections.abc import Mapping
from typing import Any

from memzoo.errors import InputError

from ..models import LAYERS, LayerConfig
from .outside import import_typed
from .serialise import near


def with_fields(layer: Any, fields: Mapping[str, Any]) -> Any:
    """Return the layer's config with these fields changed.

    Args:
        layer: config of a layer.
        fields: new values by name; a dot names a field of an inner layer:
            `memory.head_size`.

    Raises:
        InputError: a layer has no such field, or refuses the value.
    """
    for name, value in fields.items():
        outer, dot, inner = name.partition(".")
        known = {field.name for field in dataclasses.fields(layer)}
        if outer not in known:
            kind = type(layer).__name__
            raise InputError(f"{kind} has no field {outer!r}{near(outer, known)}")
        if dot:
            value = with_fields(getattr(layer, outer), {inner: value})
        layer = dataclasses.replace(layer, **{outer: value})
    return layer


def layer_from_text(text: str) -> LayerConfig:
    """Return a layer by its name, with fields after slashes.

    `mixture_of_memories/num_memories=8/memory.value_ratio=1`. A value that is not a
    Python literal is a string. A layer from outside is `my_layer.py:MyLayerConfig` or
    `my_layer:MyLayerConfig`; its path may contain slashes too.

    Raises:
        InputError: there is no such layer, or it has no such field.
    """
    outer, colon, inner = text.rpartition(":")
    name, *words = inner.split("/")
    name = f"{outer}{colon}{name}"
    kind = import_typed(name, "layer")[1] if colon else LAYERS.get(name)
    if kind is None:
        raise InputError(f"layer is {name!r}{near(name, LAYERS)}")
    fields: dict[str, Any] = {}
    for word in words:
        field, sign, value = word.partition("=")
        if not sign:
            raise InputError(f"{word!r} in {text!r} is not a field; give field=value")
        try:
            fields[field] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            fields[field] = value
    return with_fields(kind(), fields)
