"""Files are whole or not there, and failures are one line."""

import errno
import os

import pytest

from memzoo.configs.errors import NonFiniteError
from memzoo.train.writing import SaveError, explained, reason, replace_text


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


@pytest.mark.parametrize(
    ("numbers", "remedy"),
    [
        ((errno.ENOSPC, errno.EFBIG, errno.EDQUOT), "make room there and start"),
        ((errno.EACCES, errno.EPERM, errno.EROFS), "mend its permissions or give"),
        ((errno.EEXIST, errno.ENOTDIR, errno.EISDIR), "move that file away or give"),
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
