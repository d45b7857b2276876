"""Tuples as flags, written `a,b` or `a b`, and checks of numbers."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import tyro

from memzoo.errors import InputError

from ..configs.comma_list import split_list


def _listed(
    kind: Callable[[str], Any], metavar: str, word: Callable[[Any], str] = str
) -> Any:
    """Return a reader of tuples for tyro; `word` writes an item that `kind` reads."""

    def read(words: list[str]) -> tuple[Any, ...]:
        # A flag without words is an empty tuple. An empty word is a mistake, such as an
        # unset shell variable.
        if not words:
            return ()
        gap = not all(each.strip() for each in words)
        return tuple(map(kind, split_list(("," if gap else " ").join(words))))

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar=metavar,
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [",".join(map(word, value))] if value else [],
    )


Names = Annotated[tuple[str, ...], _listed(str, "NAME,NAME,...")]
Integers = Annotated[tuple[int, ...], _listed(int, "INT,INT,...")]
Floats = Annotated[tuple[float, ...], _listed(float, "FLOAT,FLOAT,...")]


def _sizes(word: str) -> tuple[int, int]:
    first, second = word.split(":")
    return int(first), int(second)


def _size_word(size: tuple[int, int]) -> str:
    return f"{size[0]}:{size[1]}"


Sizes = Annotated[
    tuple[tuple[int, int], ...], _listed(_sizes, "INT:INT,INT:INT,...", _size_word)
]


def check_tuple(name: str, values: tuple[Any, ...]) -> None:
    """Refuse a tuple that is empty or has duplicates.

    Raises:
        InputError: names the field.
    """
    if not values:
        raise InputError(f"{name} is empty; give at least one")
    if len(set(values)) < len(values):
        raise InputError(f"{name} is {values}; drop the duplicate")


def check_counts(config: Any, names: Sequence[str]) -> None:
    """Refuse fields below 1 or too large.

    Args:
        config: its fields are numbers, tuples of numbers, or None.
        names: names of the fields.

    Raises:
        InputError: names the field.
    """
    for name in names:
        given = getattr(config, name)
        for value in given if isinstance(given, tuple) else (given,):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; give 1 or more")
            if value is not None and value >= 2**31:
                raise InputError(f"{name} is {value}; give a number below 2^31")
