"""A document's state on disk."""

import json
import os
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from memzoo.errors import CheckpointError, MemzooError, NonFiniteError
from memzoo.evals import state_file
from memzoo.evals.state_file import (
    check_place,
    load_state,
    named,
    parameters_digest,
    save_state,
)
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
    with pytest.raises(MemzooError, match="Is a directory; give a file"):
        load_state(tmp_path, model)
    with pytest.raises(
        MemzooError, match="/dev/null is not a file; give one that --save"
    ):
        load_state(Path("/dev/null"), model)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(
        MemzooError, match="pipe is not a file; give one that --save-state"
    ):
        load_state(tmp_path / "pipe", model)
    line = r"state.npz is not a state that `memzoo eval --stream --save-state` writes; "
    for content in (b"", b"no archive", b"\x80 a pickle"):
        path.write_bytes(content)
        with pytest.raises(MemzooError, match=line) as error:
            load_state(path, model)
        assert "pickle" not in str(error.value) and error.value.exit_code == 2
    np.savez(path, a=np.zeros(3))
    with pytest.raises(MemzooError, match=line):
        load_state(path, model)
    np.savez(path, about=np.array("[1]"))
    with pytest.raises(MemzooError, match=line):
        load_state(path, model)
    np.savez(path, about=np.array('{"schema": 2}'))
    with pytest.raises(MemzooError, match="has schema 2 and this memzoo reads 1; use"):
        load_state(path, model)


def rewritten(path, fields=None, arrays=None, write=np.savez):
    """Write the file with other fields and arrays, without a checksum, as by hand."""
    with np.load(path) as file:
        held = {name: file[name] for name in file.files}
    about = json.loads(str(held.pop("about"))) | (fields or {})
    del about["checksum"]
    text = np.array(json.dumps(about))
    with path.open("wb") as file:
        write(file, about=text, **(held | (arrays or {})))


def refusal(path, model, kind, line):
    with pytest.raises(kind, match=line) as error:
        load_state(path, model)
    assert type(error.value) is kind
    assert str(error.value).isprintable() and len(str(error.value)) < 400
    return error.value.exit_code


def test_a_file_of_before_checksums_is_read(model, read, tmp_path):
    save_state(tmp_path / "state.npz", read.carried)
    rewritten(tmp_path / "state.npz")
    carried, _ = load_state(tmp_path / "state.npz", model)
    jax.tree.map(np.testing.assert_array_equal, carried.state, read.carried.state)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("token", value) for value in (-1, 2**31, 10**30, 1.0, "1", None, True)),
        *(("read", value) for value in (-5, 10**9 + 1, 10**30, [3], False)),
        *(("capacity", value) for value in (0, -1, 10**30, 1e400)),
        *(("layer", value) for value in (3, "a\nb", "\x1b[31m", "x" * 2000)),
        *(("run", value) for value in ({}, None, "a\rb")),
        *(("checkpoint_step", value) for value in (-1, "7", 10**30, None)),
    ],
)
def test_fields_are_of_their_types_and_in_range(model, read, tmp_path, name, value):
    path = tmp_path / "state.npz"
    save_state(path, read.carried)
    rewritten(path, {name: value})
    line = f"is damaged: {name} is .* and must be a "
    assert refusal(path, model, CheckpointError, line) == 4


def test_a_token_is_of_the_vocabulary(model, read, tmp_path):
    path = tmp_path / "state.npz"
    save_state(path, read.carried._replace(token=16))
    line = "does not fit the model: its last token is 16 and the vocabulary has 16"
    assert refusal(path, model, MemzooError, line) == 2
    save_state(path, read.carried._replace(token=12))
    assert load_state(path, model, 13)[0].token == 12
    with pytest.raises(MemzooError, match="last token is 12 and the vocabulary has 12"):
        load_state(path, model, 12)


KERNEL = "groups/0/blocks/0/memory/weights/kernel_0"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_state_that_is_not_finite_is_neither_saved_nor_loaded(
    model, read, tmp_path, value
):
    path = tmp_path / "state.npz"
    save_state(path, read.carried)
    wrong = np.asarray(named(read.carried.state)[KERNEL]).copy()
    wrong.flat[3] = value
    rewritten(path, arrays={KERNEL: wrong})
    line = f"state.npz: {KERNEL} of the state is not finite, the memory has diverged"
    assert refusal(path, model, NonFiniteError, line) == 3
    before = path.read_bytes()
    state = jax.tree.map(lambda a: a * value, read.carried.state)
    with pytest.raises(NonFiniteError, match="is not finite, the memory has diverged"):
        save_state(path, read.carried._replace(state=state))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_arrays_are_as_long_as_they_say(model, read, tmp_path):
    """A header that claims much memory allocates none of it."""
    path = tmp_path / "state.npz"
    save_state(path, read.carried)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    huge = members[KERNEL + ".npy"].replace(b"'shape': (1, ", b"'shape': (8888888888, ")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {KERNEL + ".npy": huge}).items():
            archive.writestr(name, content)
    line = "is damaged .an array is not as long as its header says.; save the state"
    assert refusal(path, model, CheckpointError, line) == 4
    save_state(path, read.carried)
    rewritten(path, write=np.savez_compressed)
    refusal(path, model, CheckpointError, "is damaged .'about.npy' is compressed.; ")
    save_state(path, read.carried)
    rewritten(path, arrays={"a\n\x1b[31m": np.zeros(2)})
    refusal(path, model, CheckpointError, "is damaged .an array is called 'a.n.x1b")
    rewritten_with = np.array([{}], dtype=object)
    save_state(path, read.carried)
    rewritten(path, arrays={KERNEL: rewritten_with})
    refusal(path, model, CheckpointError, "an array is not as long as its header says")


def test_no_flip_of_a_bit_is_loaded(model, read, tmp_path, monkeypatch):
    """The file is refused in one line, or the flip is in an unused field: an entry's
    time."""
    path = tmp_path / "state.npz"
    save_state(path, read.carried, layer="titans_lmm", run="a run", checkpoint_step=3)
    content = path.read_bytes()
    about, arrays = state_file._read(path)
    with zipfile.ZipFile(path) as archive:
        places = [member.header_offset for member in archive.infolist()]
        places.append(archive.start_dir)
    # Some bits of every part, and more of the headers, which are short beside arrays.
    bits = {*range(0, 8 * len(content), 8 * len(content) // 600)}
    for place in (places[0], places[3], places[-1]):
        bits |= {*range(8 * place, 8 * place + 8 * 150, 3)}
    bits |= {*range(8 * (len(content) - 22), 8 * len(content), 3)}
    refused = 0
    for bit in sorted(bits):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            found = state_file._read(path)
        except MemzooError as error:
            refused += 1
            assert str(error).isprintable(), bit
            continue
        assert found[0] == about and found[1].keys() == arrays.keys(), bit
        for name, array in arrays.items():
            assert found[1][name].tobytes() == array.tobytes(), bit
    assert len(bits) > 1000 and refused > 800


def test_a_file_that_is_cut_off_is_damaged(model, read, tmp_path):
    path = tmp_path / "state.npz"
    save_state(path, read.carried)
    content = path.read_bytes()
    for end in range(2, len(content), len(content) // 40):
        path.write_bytes(content[:end])
        assert refusal(path, model, CheckpointError, "is damaged .*; save the") == 4


def test_half_precision_comes_back(tmp_path):
    """An .npy file has no name for bfloat16."""
    group = Group(layers=(AttentionConfig(num_heads=1),))
    config = LanguageModelConfig(
        vocab_size=16, width=8, pattern=(group,), dtype="bfloat16"
    )
    model = config.build(nnx.Rngs(0))
    start = begin(model, 3, 32)
    state = jax.tree.map(
        lambda a: a.astype("bfloat16") if a.dtype == "float32" else a, start.state
    )
    start = start._replace(state=state)
    save_state(tmp_path / "state.npz", start)
    _, arrays = state_file._read(tmp_path / "state.npz")
    for name, leaf in named(state).items():
        typed = state_file._typed(arrays[name], leaf.dtype)
        assert typed.dtype == leaf.dtype
        np.testing.assert_array_equal(typed, np.asarray(leaf))


def test_what_cannot_be_written_is_one_line(read, tmp_path):
    with pytest.raises(SaveError, match=r"cannot write .*No such file"):
        save_state(tmp_path / "none" / "state.npz", read.carried)
    for path in (tmp_path / "none" / "state.npz", tmp_path):
        with pytest.raises(SaveError, match=r"cannot write .*(No such file|Is a dir)"):
            check_place(path)
    check_place(tmp_path / "state.npz")
    assert list(tmp_path.iterdir()) == []


def test_a_state_of_other_parameters_is_refused(model, read, tmp_path):
    path = tmp_path / "state.npz"
    given = {"run": "first", "checkpoint_step": 3}
    save_state(path, read.carried, parameters=parameters_digest(model), **given)
    load_state(path, model)
    other = build()
    other.embedding[...] = other.embedding[...] + 1
    with pytest.raises(MemzooError, match="other parameters, those of step 3 of first"):
        load_state(path, other)
