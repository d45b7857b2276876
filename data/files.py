"""Files below a folder that match a pattern, and the documents they hold."""

import fnmatch
import itertools
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from .task import DataError

# Files with these endings hold one JSON object per line, each a document.
LINES = (".jsonl", ".ndjson")


class File(NamedTuple):
    """A file, with the facts that show whether it has changed.

    Attributes:
        name: path below the folder.
        path: full path.
        size: bytes.
        time: time of the last change, in nanoseconds.
    """

    name: str
    path: str
    size: int
    time: int

    @classmethod
    def at(cls, name: str, path: Path) -> "File":
        """Return the file in its present state."""
        stat = path.stat()
        return cls(name, str(path), stat.st_size, stat.st_mtime_ns)

    @property
    def has_lines(self) -> bool:
        """Return whether every line is a document."""
        return self.path.lower().endswith(LINES)


def check_pattern(pattern: str) -> None:
    """Refuse a glob pattern that leads out of the folder, or matches nothing.

    Raises:
        DataError: the pattern is empty, absolute, or has a part `..`.
    """
    path = PurePosixPath(pattern)
    if not path.parts:
        raise DataError(
            f"pattern is {pattern!r}; set it to a glob pattern, such as '**/*.txt'"
        )
    if path.is_absolute() or ".." in path.parts:
        raise DataError(
            f"pattern is {pattern!r}, which leads out of the folder; set path to the "
            "folder that holds the files"
        )


def matching(root: Path, pattern: str) -> list[tuple[str, Path]]:
    """Return name and path of the files below a folder that match a glob pattern.

    `**` matches any number of folders. Links are followed. A file that several names
    lead to is returned once, under a name without links if it has one; otherwise its
    text could be in several splits. Broken links are skipped, and so are links to a
    folder that contains `root`, which would lead out of it.

    Args:
        root: a folder.
        pattern: a glob pattern, relative to the folder.

    Raises:
        DataError: the pattern leads out of the folder, or a folder cannot be read.
    """
    check_pattern(pattern)
    return _Search(root, PurePosixPath(pattern).parts).run()


def read(
    files: Sequence[File], text_field: str, max_bytes: int | None = None
) -> Iterator[tuple[str, bytes]]:
    """Yield name and text of the documents in some files.

    A file is one document, unchanged. A file that ends in `.jsonl` or `.ndjson` has a
    document in every line, named `file:line`.

    Args:
        files: the files, in reading order.
        text_field: field of the JSON objects that holds the text.
        max_bytes: bytes of all texts together. A file longer than the rest is skipped;
            a file with lines is read until the rest is used up. If nothing fits, the
            first document is cut. `None`: no limit.

    Raises:
        DataError: a line is not a JSON object with this field; names file and line.
    """
    left = max_bytes
    for file in files:
        if left is not None and not file.has_lines and file.size > left:
            continue
        for name, text in _documents(file, text_field, left):
            left = None if left is None else left - len(text)
            yield name, text
    if left is None or left < (max_bytes or 0):
        return
    for file in files:
        for name, text in _documents(file, text_field, None, cut=max_bytes):
            if text:
                yield name, text
                return


def _documents(
    file: File, text_field: str, limit: int | None, cut: int | None = None
) -> Iterator[tuple[str, bytes]]:
    """Yield name and text of a file's documents.

    Args:
        limit: most bytes to read; of a file with lines, only whole lines.
        cut: most bytes to keep of a document.
    """
    with open(file.path, "rb") as stream:
        if not file.has_lines:
            bounds = [bound for bound in (limit, cut) if bound is not None]
            yield file.name, stream.read(min(bounds, default=-1))
            return
        left = math.inf if limit is None else limit
        # Do not read a line to its end if it is longer than the remaining limit.
        for number in itertools.count(1):
            line = stream.readline(-1 if limit is None else int(left) + 1)
            left -= len(line)
            if not line or left < 0:
                return
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line := line.strip():
                text = _text(line, text_field, f"{file.path}, line {number}")
                yield f"{file.name}:{number}", text[:cut]


def _text(line: bytes, text_field: str, where: str) -> bytes:
    """Return the text in a line of JSON, as UTF-8."""
    try:
        found = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where} is not JSON ({error}); write one JSON object on every line of "
            f"{'/'.join(LINES)} files"
        ) from error
    if not isinstance(found, dict):
        raise DataError(
            f"{where} is not a JSON object; write the text as "
            f"{json.dumps({text_field: '...'})}"
        )
    if text_field not in found:
        names = [repr(name) for name in found]
        there = ", ".join(names[:8] + ["..."] * (len(names) > 8)) or "none"
        raise DataError(
            f"{where} has no field {text_field!r} (there: {there}); set text_field to "
            "the field that holds the text"
        )
    text = found[text_field]
    if not isinstance(text, str):
        raise DataError(
            f"{where}: field {text_field!r} is not a string; set text_field to the "
            "field that holds the text"
        )
    return text.encode("utf-8", "surrogatepass")


class _Folder(NamedTuple):
    """A folder to search.

    Attributes:
        name: path below the root, with a slash at its end.
        path: full path.
        states: numbers of pattern parts that its name can match.
        linked: whether a link leads to it.
    """

    name: str
    path: str
    states: frozenset[int]
    linked: bool


class _Search:
    """One search: folders first, then the targets of links."""

    def __init__(self, root: Path, parts: tuple[str, ...]) -> None:
        self._root = str(root)
        self._real_root = os.path.realpath(root)
        self._parts = parts
        self._folders: list[_Folder] = []
        self._linked_folders: list[_Folder] = []
        self._linked_files: list[tuple[str, str]] = []
        self._seen: set[tuple[int, int, frozenset[int]]] = set()
        self._found: list[tuple[str, Path]] = []

    def run(self) -> list[tuple[str, Path]]:
        """Return name and path of every file that matches."""
        start = self._closed({0})
        self._folders.append(_Folder("", self._root, start, linked=False))
        while self._folders or self._linked_folders:
            if not self._folders:
                self._linked_folders.sort(reverse=True)
                self._folders.append(self._linked_folders.pop())
            self._visit(self._folders.pop())
        places = {os.path.join(self._real_root, name) for name, _ in self._found}
        for name, path in sorted(self._linked_files):
            place = os.path.realpath(path)
            if place not in places:
                places.add(place)
                self._found.append((name, Path(path)))
        return self._found

    def _visit(self, folder: _Folder) -> None:
        try:
            stat = os.stat(folder.path)
            # Also stops at links that form a circle.
            place = (stat.st_dev, stat.st_ino, folder.states)
            if place in self._seen:
                return
            self._seen.add(place)
            with os.scandir(folder.path) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            raise DataError(
                f"{folder.path} cannot be read ({error.strerror}); fix its "
                "permissions, or set a pattern that leaves it out"
            ) from error
        for entry in ordered:
            self._enter(folder, entry)

    def _enter(self, folder: _Folder, entry: os.DirEntry[str]) -> None:
        """Keep a file that matches, and a folder if files below it can match."""
        states = self._after(folder.states, entry.name)
        name = folder.name + entry.name
        linked = folder.linked or entry.is_symlink()
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError:  # a link to itself
            return
        if is_folder and states - {len(self._parts)}:
            if entry.is_symlink() and self._is_above(entry.path):
                return
            below = _Folder(name + "/", entry.path, states, linked)
            waiting = self._linked_folders if entry.is_symlink() else self._folders
            waiting.append(below)
        elif is_file and len(self._parts) in states and linked:
            self._linked_files.append((name, entry.path))
        elif is_file and len(self._parts) in states:
            self._found.append((name, Path(entry.path)))

    def _is_above(self, path: str) -> bool:
        """Return whether the folder is the root or contains it."""
        place = os.path.realpath(path)
        return os.path.commonpath([place, self._real_root]) == place

    def _after(self, states: frozenset[int], name: str) -> frozenset[int]:
        """Return the numbers of pattern parts that a path can match after `name` is
        added."""
        after: set[int] = set()
        for state in states - {len(self._parts)}:
            part = self._parts[state]
            if part == "**":
                after.add(state)
            elif fnmatch.fnmatchcase(name, part):
                after.add(state + 1)
        # The last name is a file's: a `**` at the end matches it too.
        return self._closed(after)

    def _closed(self, states: set[int]) -> frozenset[int]:
        """Add the states after each `**`, which can match no folder at all."""
        closed = set(states)
        for state in sorted(states):
            while state < len(self._parts) and self._parts[state] == "**":
                state += 1
                closed.add(state)
        return frozenset(closed)
