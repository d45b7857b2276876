"""Tuples on the command line: `a,b` and `a b` are the same."""

from collections.abc import Callable
from typing import Annotated, Any

import tyro

from ..configs.comma_list import split_list


def _listed(
    kind: Callable[[str], Any], metavar: str, word: Callable[[Any], str] = str
) -> Any:
    """Reader of a tuple for tyro; `word` writes what `kind` reads."""

    def read(words: list[str]) -> tuple[Any, ...]:
        # An option without words is an empty tuple; an empty word is a mistake, such
        # as a shell variable that is not set.
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
