"""Files are written whole or not at all, and failures are one line."""

import errno
import os
import subprocess
import sys
import tempfile

import pytest

from memzoo.errors import NonFiniteError
from memzoo.train.writing import (
    SaveError,
    check_writable,
    explained,
    reason,
    replace_text,
)

# Tries a folder as a plain user: permissions do not bind root.
AS_A_USER = """
import os, sys
from pathlib import Path
from memzoo.train.writing import SaveError, check_writable
if os.getuid() == 0:
    os.setuid(65534)
try:
    check_writable(Path(sys.argv[1]))
except SaveError as error:
    print(error)
"""


def test_text_is_replaced(tmp_path):
    path = tmp_path / "a.json"
    replace_text(path, "one")
    replace_text(path, "two")
    assert path.read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_what_was_there_survives_a_failure(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    replace_text(path, "one")

    def fail(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(SaveError, match="No space left on device; make room") as error:
        replace_text(path, "two")
    assert error.value.exit_code == 1
    assert path.read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_that_can_be_written_is_left_empty(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert not list((tmp_path / "a" / "b").iterdir())


@pytest.mark.parametrize("name", ["", "new"])
def test_a_folder_without_permission_is_refused(name):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        path = os.path.join(folder, name)
        done = subprocess.run(
            [sys.executable, "-c", AS_A_USER, path],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    assert "Permission denied; fix its permissions or give another" in done.stdout


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(KeyError), explained(tmp_path):
        raise KeyError("a")
    with pytest.raises(NonFiniteError), explained(tmp_path, Exception):
        raise NonFiniteError("no number")


def test_the_first_cause_is_given_in_one_line():
    try:
        try:
            raise ValueError("bad bytes\nand much more")
        except ValueError as error:
            raise RuntimeError("outer") from error
    except RuntimeError as error:
        assert reason(error) == "ValueError: bad bytes"
    assert reason(ValueError()) == "ValueError"
    said = "RESOURCE_EXHAUSTED: Failed to open: \"a\": words [os_error_code='24']"
    assert reason(ValueError(said)) == "Too many open files"


@pytest.mark.parametrize(
    ("numbers", "remedy"),
    [
        ((errno.ENOSPC, errno.EFBIG, errno.EDQUOT), "make room there and start"),
        ((errno.EACCES, errno.EPERM, errno.EROFS), "fix its permissions or give"),
        ((errno.EEXIST, errno.ENOTDIR, errno.EISDIR), "move that file away or give"),
        ((errno.EMFILE, errno.ENFILE), r"raise the limit of open files \(`ulimit -n`"),
        ((errno.EIO, errno.ENAMETOOLONG), "give another folder"),
    ],
)
def test_the_remedy_fits_the_error(tmp_path, numbers, remedy):
    for number in numbers:
        words = os.strerror(number)
        for error in (OSError(number, words), ValueError(f"DATA_LOSS: {words} [1]")):
            with (
                pytest.raises(SaveError, match=rf"{words}.*; {remedy}"),
                explained(tmp_path, Exception),
            ):
                raise error
