"""Parts of a checkpoint: JSON beside arrays, and errors of loading."""

import jax.numpy as jnp
import pytest
from orbax.checkpoint import v1 as ocp

from memzoo.configs.reading import ReadError
from memzoo.train import parts
from memzoo.train.manifest import DamagedError
from memzoo.train.parts import JsonFile, load_parts


@pytest.fixture
def written(tmp_path):
    """A folder with checkpoint 1: an array and a JSON value."""
    value = {"array": {"a": jnp.arange(3.0)}, "text": JsonFile({"place": [1, 2]})}
    ocp.save_checkpointables(str(tmp_path / "1"), value)
    return tmp_path


def test_a_value_comes_back(written):
    file = JsonFile()
    load_parts(written, 1, {"text": file})
    assert file.value == {"place": [1, 2]}


def test_what_is_no_json_is_damaged(written):
    (written / "1" / "text" / "state.json").write_text("{")
    with pytest.raises(DamagedError, match="JSONDecodeError: Expecting property name"):
        load_parts(written, 1, {"text": JsonFile()})


def test_a_part_that_orbax_does_not_find_is_tried_before_it_is_damaged(
    written, monkeypatch
):
    def denied(folder):
        raise ReadError(f"cannot read {folder}: Permission denied")

    (written / "1" / "text" / "state.json").unlink()
    with pytest.raises(DamagedError, match="No such file or directory"):
        load_parts(written, 1, {"text": JsonFile()})
    monkeypatch.setattr(parts, "check_readable", denied)
    with pytest.raises(ReadError, match="1: Permission denied"):
        load_parts(written, 1, {"text": JsonFile()})
