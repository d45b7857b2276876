"""Tuples on the command line: `a,b` and `a b` are the same."""

from collections.abc import Callable
from typing import Annotated, Any

import tyro


def _listed(
    kind: Callable[[str], Any], metavar: str, word: Callable[[Any], str] = str
) -> Any:
    """How a tuple is read from the command line; `word` writes what `kind` reads."""
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar=metavar,
        instance_from_str=lambda words: tuple(
            kind(each) for each in ",".join(words).split(",") if each
        ),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [",".join(map(word, value))],
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
