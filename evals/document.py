"""A document of bytes, read as it is needed."""

import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from memzoo.errors import MemzooError

from ..data.corpus import VOCAB_SIZE
from ..data.task import Config, Split

_BYTES_AT_ONCE = 1 << 16


class Document(NamedTuple):
    """Bytes that follow each other.

    Attributes:
        name: where they come from.
        total: how many there are; None: not known.
        parts: the bytes, in arrays of any size; can be read once.
    """

    name: str
    total: int | None
    parts: Iterator[UInt8[np.ndarray, "_"]]

    def first(self, most: int | None) -> "Document":
        """The same, cut off behind as many bytes."""
        if most is None:
            return self
        total = None if self.total is None else min(self.total, most)
        return Document(self.name, total, _cut(self.parts, most))


def of_files(files: Sequence[str]) -> Document:
    """These files end to end; `-` is the standard input.

    Raises:
        OSError: one of them is not there.
    """
    total: int | None = 0
    for name in files:
        if name == "-" or not os.path.isfile(name):
            # A pipe or a device tells no size; what is not there is said here.
            total = None if name == "-" or os.stat(name) else total
        elif total is not None:
            total += os.path.getsize(name)
    label = "+".join("stdin" if n == "-" else os.path.basename(n) for n in files)
    return Document(label, total, _read(files))


def of_task(task: Config, split: Split) -> Document:
    """All documents of one split of the task end to end.

    Raises:
        MemzooError: the task holds no text.
        DataError: the data is not there.
    """
    check_bytes(task)
    corpus = getattr(task.build(split), "corpus", None)
    text = getattr(corpus, "text", None)
    if text is None:
        raise MemzooError(
            f"the run's task {task.task_name} holds no text of its own that can "
            "be read as one document; name a file: --stream FILE"
        )
    slices = range(0, len(text), _BYTES_AT_ONCE)
    parts = (text[first : first + _BYTES_AT_ONCE] for first in slices)
    return Document(f"{task.task_name}, {split}", len(text), parts)


def check_bytes(task: Config) -> None:
    """Raise MemzooError where models of the task do not read bytes."""
    if task.chance is not None or task.vocab_size < VOCAB_SIZE:
        raise MemzooError(
            f"the run's task {task.task_name} is not over bytes, and documents are; "
            "choose a run on text"
        )


def _read(files: Sequence[str]) -> Iterator[UInt8[np.ndarray, "_"]]:
    for name in files:
        if name == "-":
            yield from _chunks(sys.stdin.buffer)
        else:
            with open(name, "rb") as file:
                yield from _chunks(file)


def _chunks(file: Any) -> Iterator[UInt8[np.ndarray, "_"]]:
    while part := file.read(_BYTES_AT_ONCE):
        yield np.frombuffer(part, np.uint8)


def _cut(
    parts: Iterator[UInt8[np.ndarray, "_"]], most: int
) -> Iterator[UInt8[np.ndarray, "_"]]:
    left = most
    for part in parts:
        yield part[:left]
        left -= len(part)
        if left <= 0:
            return
