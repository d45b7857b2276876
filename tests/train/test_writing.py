"""Files are whole or not there, and failures are one line."""

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
