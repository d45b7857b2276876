"""Experiments as JSON and back; `"schema"` is the version of the format."""

import dataclasses
import difflib
import types
import typing
from typing import Any

from memzoo.errors import InputError

from ..data import TASKS, TaskConfig
from ..models import LAYERS, LayerConfig
from ..models.field_types import sort_of
from .experiment import ExperimentConfig
from .outside import import_outside, is_outside, outside_class

SCHEMA = 1


def to_json(config: ExperimentConfig) -> dict[str, Any]:
    """Return the experiment as a JSON object.

    Raises:
        InputError: a user's layer could not be found again by its name.
    """
    return _encode(config)


def from_json(value: Any, *, trust: bool = False) -> ExperimentConfig:
    """Return the experiment that `to_json` wrote.

    Args:
        trust: import the modules of classes outside memzoo that it names, which runs
            their code. Without it, such a class is found only if its module is loaded.

    Raises:
        InputError: a field is unknown, missing, of the wrong type or refused by its
            config, or a class is outside memzoo and not loaded; the message names the
            field.
    """
    try:
        if trust:
            import_outside(value, "config")
        config = _decode(value, ExperimentConfig, "config")
    except RecursionError as error:
        raise InputError("config is nested too deep; restore it") from error
    assert isinstance(config, ExperimentConfig)
    return config


def type_name(config: Any) -> str:
    """Return the registry name of a layer's or task's config; `module:Class` if
    outside.

    Raises:
        InputError: the class is defined inside a function.
    """
    kind = type(config)
    for name, known in {**LAYERS, **TASKS}.items():
        if known is kind:
            return name
    if "<locals>" in kind.__qualname__:
        raise InputError(
            f"{kind.__qualname__} is defined inside a function, where config.json "
            "cannot find it again; define it at the top of a module"
        )
    return f"{kind.__module__}:{kind.__qualname__}"


def _encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        encoded = {
            field.name: _encode(getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
        if sort_of(type(value)):
            return {"type": type_name(value), **encoded}
        return encoded
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    return value


def _decode(value: Any, expected: Any, where: str) -> Any:
    """Turn JSON into `expected`; `where` names the place for messages."""
    if typing.get_origin(expected) is typing.Annotated:
        expected = typing.get_args(expected)[0]
    origin = typing.get_origin(expected)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(value, typing.get_args(expected), where)
    if origin is tuple:
        return _decode_tuple(value, typing.get_args(expected), where)
    if origin is typing.Literal:
        if value not in typing.get_args(expected):
            choices = ", ".join(map(str, typing.get_args(expected)))
            raise InputError(f"{where} is {value!r}; choose one of {choices}")
        return value
    if expected in (LayerConfig, TaskConfig):
        if not isinstance(value, dict):
            raise _wrong(value, "an object", where)
        registry = LAYERS if expected is LayerConfig else TASKS
        return _decode_typed(value, list(registry.values()), where)
    if dataclasses.is_dataclass(expected):
        return _decode_dataclass(value, expected, where)
    return _decode_scalar(value, expected, where)


def _decode_tuple(value: Any, items: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(value, "a list", where)
    if items[-1] is Ellipsis:
        items = (items[0],) * len(value)
    if len(items) != len(value):
        raise _wrong(value, f"a list of {len(items)}", where)
    return tuple(
        _decode(each, item, f"{where}.{index}")
        for index, (each, item) in enumerate(zip(value, items, strict=True))
    )


def _decode_union(value: Any, members: tuple[Any, ...], where: str) -> Any:
    if value is None and type(None) in members:
        return None
    members = tuple(member for member in members if member is not type(None))
    kinds = [member for member in members if dataclasses.is_dataclass(member)]
    if kinds and isinstance(value, dict):
        return _decode_typed(value, kinds, where)
    errors = []
    for member in members:
        try:
            return _decode(value, member, where)
        except InputError as error:
            errors.append(str(error))
    raise InputError(errors[0])


def _decode_typed(value: dict[str, Any], kinds: list[Any], where: str) -> Any:
    """Decode an object that names its class."""
    known = [name for name, kind in {**LAYERS, **TASKS}.items() if kind in kinds]
    listed = ", ".join(sorted(known))
    if "type" not in value:
        raise InputError(f"{where} lacks the field 'type'; known: {listed}")
    kind = resolve_type(value["type"], where)
    # A task in a layer's place would go unnoticed until the model is built.
    if kind not in kinds and sort_of(kind) not in {
        sort_of(each) or "" for each in kinds
    }:
        raise InputError(
            f"{where} cannot be of type {value['type']!r}; known: {listed}"
        )
    rest = {key: item for key, item in value.items() if key != "type"}
    return _decode_dataclass(rest, kind, where)


def resolve_type(name: Any, where: str) -> Any:
    """Return the config class of a registered layer or task, or of `module:Class`.

    Raises:
        InputError: nothing loaded has this name, or it is not a config.
    """
    known = {**LAYERS, **TASKS}
    if not isinstance(name, str):
        raise _wrong(name, "the name of a layer or task", f"{where}.type")
    if name in known:
        return known[name]
    if not is_outside(name):
        raise InputError(f"{where} is of unknown type {name!r}{near(name, known)}")
    return outside_class(name, where)


def near(name: str, known: Any) -> str:
    """Return `; did you mean ...?`, or the whole list if no name is similar."""
    close = difflib.get_close_matches(name, list(known), n=3)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; known: {', '.join(sorted(known))}"


def _decode_dataclass(value: Any, kind: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(value, "an object", where)
    if "type" in value:
        return _decode_typed(value, [kind], where)
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in value:
        if name not in fields:
            raise InputError(f"{where} has no field {name!r}{near(name, fields)}")
    for name, field in fields.items():
        required = (
            field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        )
        if required and name not in value:
            raise InputError(f"{where} lacks the field {name!r}; add it")
    decoded = {
        name: _decode(item, hints[name], f"{where}.{name}")
        for name, item in value.items()
    }
    try:
        return kind(**decoded)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def _decode_scalar(value: Any, expected: Any, where: str) -> Any:
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if expected is int and isinstance(value, bool):
        raise _wrong(value, "int", where)
    if isinstance(expected, type) and not isinstance(value, expected):
        raise _wrong(value, expected.__name__, where)
    return value


def _wrong(value: Any, expected: str, where: str) -> InputError:
    return InputError(f"{where} is {value!r}; it must be {expected}")
