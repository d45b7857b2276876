"""Type checks of the fields of configs, over the whole tree."""

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from memzoo.errors import InputError, shown


def check_types(config: Any) -> None:
    """Refuse a config with a field of the wrong type, also in nested configs.

    Flags and JSON are parsed to the right types; a Python file can assign anything.

    Raises:
        InputError: names the field by its path, the value and the expected type.
    """
    if problem := wrong_field(config):
        raise InputError(problem)


def check_fields(kind: type, fields: Mapping[str, Any]) -> None:
    """Refuse values of the wrong type before a config is made of them.

    Args:
        kind: class of the config.
        fields: values by the name of their field; unknown names are ignored.

    Raises:
        InputError: names the field, the value and the expected type.
    """
    hints = _hints(kind)
    for name, value in fields.items():
        if name in hints and (problem := _wrong(value, hints[name], name)):
            raise InputError(problem)


def wrong_field(config: Any) -> str | None:
    """Return the first field of the wrong type in a dataclass or a nested one.

    Returns:
        One line with the field's path, its value and the expected type; `None` if every
            field has its type.
    """
    return _wrong_field(config, "")


def sort_of(kind: Any) -> Literal["layer", "task"] | None:
    """Return `layer` or `task` for types that outside classes can replace, else
    `None`.
    """
    if hasattr(kind, "task_name"):
        return "task"
    build = getattr(kind, "build", None)
    named = () if build is None else inspect.signature(build).parameters
    if "layer_index" in named:
        return "layer"
    return "task" if "split" in named else None


def _wrong_field(config: Any, prefix: str) -> str | None:
    hints = _hints(type(config))
    for field in dataclasses.fields(config):
        # A user's class may have annotations that cannot be resolved.
        if field.name in hints and hasattr(config, field.name):
            value, where = getattr(config, field.name), prefix + field.name
            if problem := _wrong(value, hints[field.name], where):
                return problem
    return None


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """Return the types of a dataclass's fields; empty if an annotation is
    unresolvable.
    """
    try:
        return typing.get_type_hints(kind)
    except (NameError, AttributeError, TypeError):
        return {}


def _wrong(value: Any, expected: Any, where: str) -> str | None:
    """Return why a value is not of a type; `None` if it is."""
    kinds = _members(expected)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if any(_takes(kind, value) for kind in kinds):
            return _wrong_field(value, where + ".")
    elif isinstance(value, tuple):
        problems = [
            _wrong_item(value, typing.get_args(kind), where)
            for kind in kinds
            if typing.get_origin(kind) is tuple
        ]
        if None in problems or tuple in kinds or Any in kinds:
            return None
        # With only one kind of tuple, blame the item instead of the whole tuple.
        if len(problems) == 1 and problems[0]:
            return problems[0]
    elif any(_is(value, kind) for kind in kinds):
        return None
    return f"{where} is {shown(value)}; it must be {_in_words(kinds)}"


def _members(expected: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type itself.

    `Any` next to layers or tasks stands for users' classes, which `_takes` accepts.
    """
    origin = typing.get_origin(expected)
    if origin not in (typing.Union, types.UnionType):
        return (expected,)
    members = typing.get_args(expected)
    if any(sort_of(member) for member in members):
        return tuple(member for member in members if member is not Any)
    return members


def _takes(kind: Any, value: Any) -> bool:
    """Return whether a field of type `kind` accepts the config `value`."""
    if kind is Any:
        return True
    # A protocol only requires a method of some name.
    named = isinstance(kind, type) and not getattr(kind, "_is_protocol", False)
    if named and isinstance(value, kind):
        return True
    sort = sort_of(kind)
    return sort is not None and sort == sort_of(type(value))


def _wrong_item(value: tuple, items: tuple[Any, ...], where: str) -> str | None:
    """Return why a tuple does not hold items of these types; `None` if it does."""
    if items[-1] is Ellipsis:
        items = (items[0],) * len(value)
    if len(items) != len(value):
        return f"{where} is {shown(value)}; give a tuple of {len(items)}"
    for index, (each, item) in enumerate(zip(value, items, strict=True)):
        if problem := _wrong(each, item, f"{where}.{index}"):
            return problem
    return None


def _is(value: Any, kind: Any) -> bool:
    """Return whether a value that is neither a config nor a tuple is of a type."""
    if kind is Any or isinstance(kind, typing.TypeVar):
        return True
    if kind is None or kind is type(None):
        return value is None
    if typing.get_origin(kind) is Literal:
        return any(
            value == each and type(value) is type(each)
            for each in typing.get_args(kind)
        )
    if kind in (int, float) and isinstance(value, bool):
        return False
    if kind is float:
        return isinstance(value, int | float)
    if isinstance(value, type) and sort_of(kind) is not None:
        return False
    kind = typing.get_origin(kind) or kind
    return isinstance(value, kind) if isinstance(kind, type) else True


def _in_words(kinds: tuple[Any, ...]) -> str:
    """Return types in words."""
    words: list[str] = []
    for kind in kinds:
        sort = sort_of(kind)
        if sort is not None:
            word = f"the config of a {sort}"
        elif typing.get_origin(kind) is tuple:
            word = f"a tuple of {_in_words(_members(typing.get_args(kind)[0]))}"
        elif typing.get_origin(kind) is Literal:
            word = "one of " + ", ".join(repr(each) for each in typing.get_args(kind))
        elif kind is None or kind is type(None):
            word = "None"
        else:
            word = getattr(kind, "__name__", str(kind))
        if word not in words:
            words.append(word)
    return " or ".join(words)
