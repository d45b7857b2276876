"""A layer with other fields, also in the layers that it holds."""

import ast
import dataclasses
from collections.abc import Mapping
from typing import Any

from memzoo.errors import InputError

from ..models import LAYERS, LayerConfig
from .serialise import near


def with_fields(layer: Any, fields: Mapping[str, Any]) -> Any:
    """The layer's config with these fields changed.

    Args:
        layer: config of a layer.
        fields: a field of a layer inside the layer is named with a dot:
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
    """A registered layer by name, with fields after strokes.

    `mixture_of_memories/num_memories=8/memory.value_ratio=1`; what is no Python literal
    is a string.

    Raises:
        InputError: no layer is registered by that name, or has such a field.
    """
    name, *words = text.split("/")
    if name not in LAYERS:
        raise InputError(f"no layer is named {name!r}{near(name, LAYERS)}")
    fields: dict[str, Any] = {}
    for word in words:
        field, sign, value = word.partition("=")
        if not sign:
            raise InputError(f"{word!r} in {text!r} is no field; give field=value")
        try:
            fields[field] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            fields[field] = value
    return with_fields(LAYERS[name](), fields)
