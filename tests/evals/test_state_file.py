"""A document's state on disk."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from memzoo.configs.errors import MemzooError
from memzoo.evals.state_file import load_state, named, save_state
from memzoo.evals.stream import begin, stream
from memzoo.models.attention import AttentionConfig
from memzoo.models.block import Group
from memzoo.models.language_model import LanguageModelConfig
from memzoo.models.titans_lmm import TitansLMMConfig
from memzoo.train.writing import SaveError

TOKENS = np.random.default_rng(0).integers(0, 16, 24)


def build(width=8, expansion=1, **fields):
    fields = {"memory_expansion": expansion, "persistent_tokens": 0} | fields
    memory = TitansLMMConfig(num_heads=1, **fields)
    group = Group(layers=(memory, AttentionConfig(num_heads=1)))
    return LanguageModelConfig(vocab_size=16, width=width, pattern=(group,)).build(
        nnx.Rngs(0)
    )


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def read(model):
    return stream(model, [TOKENS[:13]], begin(model, 3, 32), piece=8)


def test_loaded_is_what_was_saved(model, read, tmp_path):
    path = tmp_path / "state.npz"
    save_state(path, read.carried, layer="titans_lmm", run="a run")
    carried, about = load_state(path, model)
    assert carried[1:] == read.carried[1:] == (int(TOKENS[12]), 13, 32)
    assert (about["layer"], about["run"]) == ("titans_lmm", "a run")
    jax.tree.map(np.testing.assert_array_equal, carried.state, read.carried.state)
    assert jax.tree.structure(carried.state) == jax.tree.structure(read.carried.state)
    ways = [stream(model, [TOKENS[13:]], c, piece=8) for c in (carried, read.carried)]
    assert ways[0].tally.rows({}, 24) == ways[1].tally.rows({}, 24)
    assert list(tmp_path.iterdir()) == [path]


def test_anyone_can_look_into_it(read, tmp_path):
    save_state(tmp_path / "state.npz", read.carried)
    with np.load(tmp_path / "state.npz") as file:
        weights = file["groups/0/blocks/0/memory/weights/kernel_0"]
        about = json.loads(str(file["about"]))
    held = named(read.carried.state)["groups/0/blocks/0/memory/weights/kernel_0"]
    np.testing.assert_array_equal(weights, held)
    assert about["read"] == 13


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"expansion": 2}, r"weights/kernel_0 is float32\[.*\] in the file and float"),
        ({"momentum": False}, "only the file has groups/0/blocks/0/memory/momentum"),
        ({"memory_depth": 3}, "only the model has .*kernel_2; it was saved from tit"),
    ],
)
def test_another_model_is_refused(read, tmp_path, fields, message):
    save_state(tmp_path / "state.npz", read.carried, layer="titans_lmm")
    with pytest.raises(MemzooError, match=message) as error:
        load_state(tmp_path / "state.npz", build(**fields))
    assert "\n" not in str(error.value)


def test_what_is_no_state_is_refused(model, read, tmp_path):
    path = tmp_path / "state.npz"
    with pytest.raises(MemzooError, match="No such file or directory; give a file"):
        load_state(path, model)
    line = r"state.npz is not a state that `memzoo eval --stream --save-state` writes; "
    for content in (b"", b"no archive", b"\x80 a pickle", b"PK\x03\x04 cut off"):
        path.write_bytes(content)
        with pytest.raises(MemzooError, match=line) as error:
            load_state(path, model)
        assert "pickle" not in str(error.value)
    np.savez(path, a=np.zeros(3))
    with pytest.raises(MemzooError, match=line):
        load_state(path, model)
    about = {"schema": 1, "token": 1, "read": "1", "capacity": 1}
    np.savez(path, about=np.array(json.dumps(about)))
    with pytest.raises(MemzooError, match=line):
        load_state(path, model)
    np.savez(path, about=np.array(json.dumps(about | {"schema": 2, "read": 1})))
    with pytest.raises(MemzooError, match="has schema 2 and this memzoo reads 1; use"):
        load_state(path, model)


def test_what_cannot_be_written_is_one_line(read, tmp_path):
    with pytest.raises(SaveError, match=r"cannot write .*No such file"):
        save_state(tmp_path / "none" / "state.npz", read.carried)
