"""A document of bytes, read piece by piece."""

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
    """Bytes of a document in order.

    Attributes:
        name: where the bytes come from.
        total: number of bytes; None: unknown.
        parts: the bytes, in arrays of any size; can be read once.
    """

    name: str
    total: int | None
    parts: Iterator[UInt8[np.ndarray, "_"]]

    def first(self, most: int | None) -> "Document":
        """Return the document cut off after `most` bytes."""
        if most is None:
            return self
        total = None if self.total is None else min(self.total, most)
        return Document(self.name, total, _cut(self.parts, most))


def of_files(files: Sequence[str]) -> Document:
    """Return these files joined end to end; `-` is the standard input.

    Raises:
        OSError: a file is missing.
    """
    total: int | None = 0
    for name in files:
        if name == "-" or not os.path.isfile(name):
            # A pipe or a device has no size; `os.stat` raises if the file is missing.
            total = None if name == "-" or os.stat(name) else total
        elif total is not None:
            total += os.path.getsize(name)
    label = "+".join("stdin" if n == "-" else os.path.basename(n) for n in files)
    return Document(label, total, _read(files))


def of_task(task: Config, split: Split) -> Document:
    """Return all documents of one split of the task, joined end to end.

    Raises:
        MemzooError: the task holds no text.
        DataError: the data is missing.
    """
    check_bytes(task)
    corpus = getattr(task.build(split), "corpus", None)
    text = getattr(corpus, "text", None)
    if text is None:
        raise MemzooError(
            f"the run's task is {task.task_name}, which holds no text to stream; name "
            "a file: --stream FILE"
        )
    slices = range(0, len(text), _BYTES_AT_ONCE)
    parts = (text[first : first + _BYTES_AT_ONCE] for first in slices)
    return Document(f"{task.task_name}, {split}", len(text), parts)


def check_bytes(task: Config) -> None:
    """Raise MemzooError if models of the task do not read bytes."""
    if task.chance is not None or task.vocab_size < VOCAB_SIZE:
        raise MemzooError(
            f"the run's task is {task.task_name}, which is not over bytes; choose a "
            "run on text"
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
