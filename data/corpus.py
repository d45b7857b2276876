"""Corpora of bytes: documents held in memory, as tokens."""

import functools
import hashlib
import os
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int32, Int64, UInt8

from memzoo.errors import InputError

from .files import File, matching, read
from .task import SPLITS, DataError, Split

# Every document begins with this token, so that its first byte is predicted too.
BEGIN = 256
VOCAB_SIZE = 257

_NOT_LIBRARY = frozenset(
    ["site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3"]
    + ["__pycache__"]
)


@dataclass(frozen=True)
class Corpus:
    """Documents joined end to end.

    Attributes:
        text: bytes of the documents.
        starts: offset of each document in `text`, then the size of `text`.
    """

    text: UInt8[np.ndarray, "n"]
    starts: Int64[np.ndarray, "edges"]

    @classmethod
    def of(cls, documents: Iterable[bytes]) -> "Corpus":
        """Return a corpus of these documents, without the empty ones."""
        kept = [document for document in documents if document]
        starts = np.zeros(len(kept) + 1, np.int64)
        np.cumsum([len(document) for document in kept], out=starts[1:])
        return cls(np.frombuffer(b"".join(kept), np.uint8), starts)

    @property
    def lengths(self) -> Int64[np.ndarray, "d"]:
        """Return the tokens of each document: `BEGIN` and its bytes."""
        return np.diff(self.starts) + 1

    def tokens(
        self, document: Int[np.ndarray, "b t"], offset: Int[np.ndarray, "b t"]
    ) -> Int32[np.ndarray, "b t"]:
        """Return the token at an offset of a document."""
        byte = self.text[np.maximum(self.starts[document] + offset - 1, 0)]
        return np.where(offset == 0, np.int32(BEGIN), byte.astype(np.int32))


@dataclass(frozen=True)
class Library:
    """Splits of one source, with statistics of what was read.

    Attributes:
        splits: a corpus for each split.
        content: number of files and bytes, and a digest of names and bytes; also
            `cut` if the splits are parts of documents.
    """

    splits: Mapping[Split, Corpus]
    content: Mapping[str, int | str]


def digest(documents: Iterable[tuple[str, bytes]]) -> dict[str, int | str]:
    """Return number, bytes and SHA-256 of named documents, in order.

    A name may hold bytes that are not UTF-8, as file names can.
    """
    sha, files, size = hashlib.sha256(), 0, 0
    for name, text in documents:
        for part in (os.fsencode(name), text):
            sha.update(len(part).to_bytes(8, "little"))
            sha.update(part)
        files, size = files + 1, size + len(text)
    return {"files": files, "bytes": size, "sha256": sha.hexdigest()}


def split_of(name: str, validation: float, test: float) -> Split:
    """Return the split of a document, by its name: new documents move no others."""
    head = hashlib.sha256(os.fsencode(name)).digest()[:6]
    place = int.from_bytes(head, "big") / 2**48
    if place < validation:
        return "validation"
    return "test" if place < validation + test else "train"


def check_shares(validation: float, test: float) -> None:
    """Refuse shares that are negative or NaN, or that leave nothing for training.

    Raises:
        InputError: names both.
    """
    # `min` would not catch a NaN.
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise InputError(
            f"validation is {validation} and test {test}; give shares from 0 on that "
            "sum to less than 1: training needs the rest"
        )


def split_documents(
    documents: Sequence[tuple[str, bytes]], validation: float, test: float
) -> tuple[dict[Split, list[bytes]], bool]:
    """Return the texts of every split, chosen by name if that serves train and
    validation.

    With few documents, one of the two may get none. Then every document is cut: its
    first bytes go to training, the next to validation, the last to test.

    Args:
        documents: names and texts.
        validation: share of the validation split; 0: it stays empty.
        test: share of the test split.

    Returns:
        The texts, and whether the documents were cut.
    """
    parts: dict[Split, list[bytes]] = {split: [] for split in SPLITS}
    for name, text in documents:
        parts[split_of(name, validation, test)].append(text)
    if any(parts["train"]) and (validation == 0 or any(parts["validation"])):
        return parts, False
    pieces: dict[Split, list[bytes]] = {split: [] for split in SPLITS}
    for _, text in documents:
        first = round(len(text) * (1 - validation - test))
        second = round(len(text) * (1 - test))
        pieces["train"].append(text[:first])
        pieces["validation"].append(text[first:second])
        pieces["test"].append(text[second:])
    return pieces, True


def standard_library(max_bytes: int | None = None) -> Library:
    """Return the sources of Python's standard library: 90 % train, 5 % validation, 5 %
    test.

    Excludes tests, site-packages and files written when Python was built.

    Raises:
        DataError: this Python has no sources.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    found = []
    for folder_name, below, names in os.walk(root):
        below[:] = [name for name in below if name not in _NOT_LIBRARY]
        for name in names:
            if name.endswith(".py") and not name.startswith("_sysconfigdata"):
                path = Path(folder_name, name)
                found.append((path.relative_to(root).as_posix(), path))
    if not found:
        raise DataError(
            f"no Python sources in {root}; use the task 'folder' with your own path"
        )
    return _library(found, 0.05, 0.05, max_bytes)


def folder(
    path: str | Path,
    pattern: str,
    *,
    validation: float = 0.05,
    test: float = 0.05,
    max_bytes: int | None = None,
    text_field: str = "text",
) -> Library:
    """Return the documents in the files below a folder that match a glob pattern.

    Links are followed. A file is read once, however many links lead to it.

    Args:
        path: the folder.
        pattern: glob pattern, such as `**/*.txt`.
        validation: share of the files in the validation split, chosen by name.
        test: share of the files in the test split.
        max_bytes: most bytes to read, choosing files by name; `None`: all.
        text_field: field that holds the text, in files with one JSON object per line.

    Raises:
        DataError: the folder or a matching file is missing, or a line has no text.
    """
    found = files(path, pattern)
    return _library(found, validation, test, max_bytes, text_field)


def files(path: str | Path, pattern: str) -> list[tuple[str, Path]]:
    """Return name and path of the files below a folder that match a glob pattern.

    Raises:
        DataError: the folder or a matching file is missing, the pattern leads out of
            the folder, or a folder in it cannot be read.
    """
    root = Path(os.path.expanduser(path))
    if root.is_file():
        raise DataError(
            f"{root} is a file; set path to its folder and pattern to its name"
        )
    if not root.is_dir():
        raise DataError(
            f"there is no folder {root}; set path to a folder of text files"
        )
    found = matching(root, pattern)
    if not found:
        raise DataError(
            f"no file in {root} matches {pattern!r}; put files there, or set pattern, "
            "such as '**/*.md'"
        )
    return found


def _library(
    files: list[tuple[str, Path]],
    validation: float,
    test: float,
    max_bytes: int | None,
    text_field: str = "text",
) -> Library:
    """Read the files in an order set by their names, as many as fit into
    `max_bytes`.
    """
    stamped = tuple(File.at(*file) for file in sorted(files, key=_order))
    return _read(stamped, validation, test, max_bytes, text_field)


def _order(file: tuple[str, Path]) -> bytes:
    """Return a sort key that is independent of the file's split."""
    return hashlib.sha256(os.fsencode(file[0])).digest()[6:]


@functools.lru_cache(maxsize=2)
def _read(
    files: tuple[File, ...],
    validation: float,
    test: float,
    max_bytes: int | None,
    text_field: str,
) -> Library:
    """Read the files' documents; the cache misses when a file's size or time
    changes.
    """
    documents = list(read(files, text_field, max_bytes))
    parts, cut = split_documents(documents, validation, test)
    splits: dict[Split, Corpus] = {s: Corpus.of(part) for s, part in parts.items()}
    return Library(splits, digest(documents) | ({"cut": "bytes"} if cut else {}))
