"""Experiments as JSON and back; the form is versioned by `"schema"`."""

import dataclasses
import difflib
import importlib
import types
import typing
from typing import Any

from ..data import TASKS
from ..models import LAYERS
from .experiment import ExperimentConfig

SCHEMA = 1


def to_json(config: ExperimentConfig) -> dict[str, Any]:
    """The experiment as a JSON object."""
    return _encode(config)


def from_json(value: dict[str, Any]) -> ExperimentConfig:
    """The experiment that `to_json` wrote.

    Raises:
        ValueError: a field is unknown, missing, or of the wrong type.
    """
    config = _decode(value, ExperimentConfig, "config")
    assert isinstance(config, ExperimentConfig)
    return config


def type_name(config: Any) -> str:
    """Registry name of a layer's or task's config; `module:Class` for one outside."""
    kind = type(config)
    for registry in (LAYERS, TASKS):
        for name, known in registry.items():
            if known is kind:
                return name
    return f"{kind.__module__}:{kind.__qualname__}"


def _encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        encoded = {
            field.name: _encode(getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
        if _is_registered_kind(type(value)):
            return {"type": type_name(value), **encoded}
        return encoded
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    return value


def _is_registered_kind(kind: type) -> bool:
    known = set(LAYERS.values()) | set(TASKS.values())
    return kind in known or hasattr(kind, "build")


def _decode(value: Any, expected: Any, where: str) -> Any:
    """Turn JSON into `expected`; `where` names the place for messages."""
    if typing.get_origin(expected) is typing.Annotated:
        expected = typing.get_args(expected)[0]
    origin = typing.get_origin(expected)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(value, typing.get_args(expected), where)
    if origin is tuple:
        item = typing.get_args(expected)[0]
        if not isinstance(value, list | tuple):
            raise _wrong(value, "a list", where)
        return tuple(_decode(v, item, f"{where}.{i}") for i, v in enumerate(value))
    if origin is typing.Literal:
        if value not in typing.get_args(expected):
            choices = ", ".join(map(str, typing.get_args(expected)))
            raise ValueError(f"{where} is {value!r}; choose one of {choices}")
        return value
    if dataclasses.is_dataclass(expected):
        return _decode_dataclass(value, expected, where)
    return _decode_scalar(value, expected, where)


def _decode_union(value: Any, members: tuple[Any, ...], where: str) -> Any:
    if value is None and type(None) in members:
        return None
    members = tuple(member for member in members if member is not type(None))
    if isinstance(value, dict) and "type" in value:
        kind = resolve_type(value["type"], where)
        rest = {key: item for key, item in value.items() if key != "type"}
        return _decode_dataclass(rest, kind, where)
    errors = []
    for member in members:
        try:
            return _decode(value, member, where)
        except ValueError as error:
            errors.append(str(error))
    raise ValueError(errors[0])


def resolve_type(name: str, where: str) -> Any:
    """The config class of a registered layer or task, or of `module:Class`.

    Raises:
        ValueError: nothing has this name.
    """
    known = {**LAYERS, **TASKS}
    if name in known:
        return known[name]
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ValueError(
                f"{where} is of type {name}, which cannot be imported ({error}); "
                "run where that module can be found"
            ) from error
    raise ValueError(f"{where} is of unknown type {name!r}{near(name, known)}")


def near(name: str, known: Any) -> str:
    """`; did you mean ...?`, or the whole list where nothing is near."""
    close = difflib.get_close_matches(name, list(known), n=3)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; known: {', '.join(sorted(known))}"


def _decode_dataclass(value: Any, kind: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(value, "an object", where)
    value = {key: item for key, item in value.items() if key != "type"}
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in value:
        if name not in fields:
            raise ValueError(f"{where} has no field {name!r}{near(name, fields)}")
    for name, field in fields.items():
        required = (
            field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        )
        if required and name not in value:
            raise ValueError(f"{where} lacks the field {name!r}; add it")
    return kind(
        **{
            name: _decode(item, hints[name], f"{where}.{name}")
            for name, item in value.items()
        }
    )


def _decode_scalar(value: Any, expected: Any, where: str) -> Any:
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if expected is int and isinstance(value, bool):
        raise _wrong(value, "int", where)
    if isinstance(expected, type) and not isinstance(value, expected):
        raise _wrong(value, expected.__name__, where)
    return value


def _wrong(value: Any, expected: str, where: str) -> ValueError:
    return ValueError(f"{where} is {value!r}; it must be {expected}")
