"""Records, and damage to them on disk."""

import json

import numpy as np
import pytest

from memzoo.configs.reading import ReadError
from memzoo.train.manifest import DamagedError
from memzoo.train.sealed import read_json, seal, unseal, write_sealed
from memzoo.train.writing import SaveError

RECORD = {
    "schema": 2,
    "rows": [{"metric": "accuracy", "value": 0.12345678901234567, "chance": None}],
    "name": "Größe",
    "seeds": (0, 1),
}
READ = RECORD | {"seeds": [0, 1]}


def test_a_record_comes_back(tmp_path):
    path = tmp_path / "record.json"
    write_sealed(path, RECORD)
    assert unseal(read_json(path)) == READ
    assert list(json.loads(path.read_text()))[:-1] == list(RECORD)
    assert unseal(seal({"nan": float("inf"), 3: 1})) == {"nan": float("inf"), "3": 1}


def flips(data):
    """Yield the bytes with one bit changed, another one each time."""
    for place in range(0, 8 * len(data), 7):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        yield bytes(changed)


def test_no_flip_gives_another_record(tmp_path):
    path = tmp_path / "record.json"
    write_sealed(path, RECORD)
    whole, seen = path.read_bytes(), 0
    for data in flips(whole):
        path.write_bytes(data)
        try:
            assert unseal(read_json(path)) == READ  # white space, the case of an E
        except DamagedError:
            seen += 1
    assert seen > 0.8 * 8 * len(whole) / 7


@pytest.mark.parametrize("share", np.linspace(0, 0.98, 8))
def test_a_file_that_was_cut_off_is_damaged(tmp_path, share):
    path = tmp_path / "record.json"
    write_sealed(path, RECORD)
    path.write_bytes(path.read_bytes()[: int(share * len(path.read_bytes()))])
    with pytest.raises(DamagedError, match=r"^it is (empty|not JSON: )"):
        read_json(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "it is not a JSON object"),
        (None, "it is not a JSON object"),
        ({}, "it has no checksum"),
        ({"checksum": None}, "it does not match its checksum"),
        ({"a": 1, "checksum": "00"}, "it does not match its checksum"),
    ],
)
def test_what_is_no_record_is_damaged(value, message):
    with pytest.raises(DamagedError, match=message):
        unseal(value)


def test_an_older_record_is_taken_where_it_may_be_one():
    assert unseal({"a": 1}, required=False) == {"a": 1}
    with pytest.raises(DamagedError, match="does not match its checksum"):
        unseal(seal({"a": 1}) | {"a": 2}, required=False)


@pytest.mark.parametrize(
    "data", [b"", b" \n", b"\xff\xfe", b"{", b"[" * 99_999, b"\0" * 64]
)
def test_what_is_no_json_is_damaged(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(DamagedError) as damage:
        read_json(tmp_path / "x")
    assert "\n" not in str(damage.value) and len(str(damage.value)) < 160


def test_what_cannot_be_read_is_not_called_damaged(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(ReadError, match=r"^cannot read .*x: Is a directory; fix") as no:
        read_json(tmp_path / "x")
    assert no.value.exit_code == 1
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "y")
    (tmp_path / "z").write_text("{}")
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "z" / "y")
    with pytest.raises(SaveError):
        write_sealed(tmp_path / "x", RECORD)
