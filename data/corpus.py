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
    """Documents end to end.

    Attributes:
        text: their bytes.
        starts: where each document begins in `text`; then the size of `text`.
    """

    text: UInt8[np.ndarray, "n"]
    starts: Int64[np.ndarray, "edges"]

    @classmethod
    def of(cls, documents: Iterable[bytes]) -> "Corpus":
        """These documents, without the empty ones."""
        kept = [document for document in documents if document]
        starts = np.zeros(len(kept) + 1, np.int64)
        np.cumsum([len(document) for document in kept], out=starts[1:])
        return cls(np.frombuffer(b"".join(kept), np.uint8), starts)

    @property
    def lengths(self) -> Int64[np.ndarray, "d"]:
        """Tokens of each document: `BEGIN` and its bytes."""
        return np.diff(self.starts) + 1

    def tokens(
        self, document: Int[np.ndarray, "b t"], offset: Int[np.ndarray, "b t"]
    ) -> Int32[np.ndarray, "b t"]:
        """The token at an offset of a document."""
        byte = self.text[np.maximum(self.starts[document] + offset - 1, 0)]
        return np.where(offset == 0, np.int32(BEGIN), byte.astype(np.int32))


@dataclass(frozen=True)
class Library:
    """The splits of one source, and what was read.

    Attributes:
        splits: a corpus for each split.
        content: number of files, of bytes, and a digest of names and bytes; `cut`
            where the splits are parts of documents.
    """

    splits: Mapping[Split, Corpus]
    content: Mapping[str, int | str]


def digest(documents: Iterable[tuple[str, bytes]]) -> dict[str, int | str]:
    """Number, bytes and SHA-256 of named documents, in their order.

    A name may hold bytes that are no UTF-8, as the system's file names do.
    """
    sha, files, size = hashlib.sha256(), 0, 0
    for name, text in documents:
        for part in (os.fsencode(name), text):
            sha.update(len(part).to_bytes(8, "little"))
            sha.update(part)
        files, size = files + 1, size + len(text)
    return {"files": files, "bytes": size, "sha256": sha.hexdigest()}


def split_of(name: str, validation: float, test: float) -> Split:
    """The split of a document, by its name: adding some moves no other."""
    head = hashlib.sha256(os.fsencode(name)).digest()[:6]
    place = int.from_bytes(head, "big") / 2**48
    if place < validation:
        return "validation"
    return "test" if place < validation + test else "train"


def check_shares(validation: float, test: float) -> None:
    """Refuse shares that are no numbers from 0 on, or that leave nothing to training.

    Raises:
        InputError: names both.
    """
    # Not by `min`, which passes over a NaN.
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise InputError(
            f"validation is {validation} and test {test}; they are shares of the "
            "files, from 0 on, which together stay below 1: training keeps some"
        )


def split_documents(
    documents: Sequence[tuple[str, bytes]], validation: float, test: float
) -> tuple[dict[Split, list[bytes]], bool]:
    """Texts of every split, by name where names give training and validation some.

    Few documents may leave one of the two without any. Then each document is cut: its
    first bytes are for training, the next for validation, the last for the test split.

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
    """The sources of Python's own standard library: 90 % train, 5 % and 5 %.

    Without tests, site-packages and files written when Python was built.

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
    """The documents in the files below a folder that match a glob pattern.

    Links are followed, and a file is read once, however many lead to it.

    Args:
        path: the folder.
        pattern: such as `**/*.txt`.
        validation: share of the files that the validation split gets, by name.
        test: share of the test split.
        max_bytes: read no more than this, choosing files by name; `None`: all.
        text_field: field that holds the text, in files with a JSON object a line.

    Raises:
        DataError: there is no such folder, no such file in it, or a line without text.
    """
    found = files(path, pattern)
    return _library(found, validation, test, max_bytes, text_field)


def files(path: str | Path, pattern: str) -> list[tuple[str, Path]]:
    """Name and place of the files below a folder that match a glob pattern.

    Raises:
        DataError: there is no such folder, or no such file in it; the pattern leads
            out of it, or a folder in it cannot be read.
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
    """The files in an order by name, as many as fit into `max_bytes`."""
    stamped = tuple(File.at(*file) for file in sorted(files, key=_order))
    return _read(stamped, validation, test, max_bytes, text_field)


def _order(file: tuple[str, Path]) -> bytes:
    """A sort key, independent of what decides the file's split."""
    return hashlib.sha256(os.fsencode(file[0])).digest()[6:]


@functools.lru_cache(maxsize=2)
def _read(
    files: tuple[File, ...],
    validation: float,
    test: float,
    max_bytes: int | None,
    text_field: str,
) -> Library:
    """The files' documents; read again when size or time of a file has changed."""
    documents = list(read(files, text_field, max_bytes))
    parts, cut = split_documents(documents, validation, test)
    splits: dict[Split, Corpus] = {s: Corpus.of(part) for s, part in parts.items()}
    return Library(splits, digest(documents) | ({"cut": "bytes"} if cut else {}))
