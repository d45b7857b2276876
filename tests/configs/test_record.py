"""config.json of a run: reading, and detecting changes."""

import json

import pytest

from memzoo.configs.record import (
    check_unchanged,
    checksum,
    fits_checksum,
    load_record,
)
from memzoo.errors import CheckpointError, MemzooError


def test_a_checksum_is_of_the_value():
    assert checksum({"a": 1, "b": [0.5]}) == checksum({"b": (0.5,), "a": 1})
    assert checksum({"a": 1}) != checksum({"a": 2})
    assert checksum(json.loads("1e-05")) == checksum(json.loads("1E-5"))


def test_a_changed_config_is_noticed(tmp_path):
    config = {"a": 1}
    for record in (
        {"config": config},
        {"config": config, "checksum": checksum(config)},
    ):
        assert fits_checksum(record)
        check_unchanged(tmp_path, record)
    for wrong in ("", None, 3, checksum({"a": 2})):
        record = {"config": config, "checksum": wrong}
        assert not fits_checksum(record)
        with pytest.raises(CheckpointError, match="has changed since memzoo wrote it"):
            check_unchanged(tmp_path, record, CheckpointError)


NO_CONFIG = b'{"schema": 1, "config": [3]}'


@pytest.mark.parametrize("failure", [MemzooError, CheckpointError])
@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 9999, b"3", b"{}", NO_CONFIG])
def test_what_is_no_record_is_refused(tmp_path, content, failure):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(MemzooError, match=str(path)) as caught:
        load_record(path, failure)
    assert type(caught.value) is failure and "\n" not in str(caught.value)


def test_a_record_comes_back(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"schema": 1, "config": {"a": 7}}')
    assert load_record(path) == {"schema": 1, "config": {"a": 7}}
