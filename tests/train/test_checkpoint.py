"""Checkpoints: saved state comes back; damage is detected, and not used."""

import dataclasses
import errno
import shutil
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from memzoo.configs.experiment import MeshConfig
from memzoo.configs.reading import ReadError
from memzoo.configs.serialise import to_json
from memzoo.errors import CheckpointError, MemzooError
from memzoo.train import checkpoint
from memzoo.train.checkpoint import (
    Checkpoints,
    flatten,
    restore_newest,
    saved_steps,
    unflatten,
)
from memzoo.train.sharding import make_mesh
from memzoo.train.state import TrainState
from memzoo.train.writing import SaveError


class Place:
    """An iterator that only has a position."""

    def __init__(self, position=0, seed=1):
        self.position = position
        self.fingerprint = {"task": "numbers", "seed": seed}

    def get_state(self):
        return {"position": self.position}

    def set_state(self, state):
        self.position = state["position"]


def make_state(seed, mesh_config=None, size=64):
    """Return a state with arrays too large for Orbax's own index."""
    mesh = make_mesh(MeshConfig(data=1) if mesh_config is None else mesh_config)
    draw = np.random.default_rng(seed)
    params = {
        "embedding": jnp.asarray(draw.normal(size=(size, size)), jnp.float32),
        "stack/groups/0/blocks/0/norm/scale": jnp.full((2, 4), seed, jnp.float32),
    }
    state = TrainState(
        params=params,
        rest={"stack/dropout/key": jax.random.key(seed)},
        opt_state=optax.adam(1e-3).init(params),
        step=jnp.asarray(seed, jnp.int32),
        failed_step=jnp.asarray(-1, jnp.int32),
    )
    whole = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec("fsdp"))
    return jax.tree.map(
        lambda a: jax.device_put(a, split if a.shape == (size, size) else whole), state
    )


def specs_of(state):
    return jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), state
    )


def assert_equal(a, b):
    jax.tree.map(
        lambda x, y: np.testing.assert_array_equal(bits(x), bits(y)), tuple(a), tuple(b)
    )


def bits(a):
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        return jax.random.key_data(a)
    return np.asarray(a)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "checkpoints"


@pytest.fixture
def save(directory, small):
    def save(*steps, keep=3):
        with Checkpoints(directory, keep=keep) as checkpoints:
            for step in steps:
                place = Place(10 * step)
                checkpoints.save(step, make_state(step), place, to_json(small()))

    return save


@pytest.fixture
def restore(directory, small):
    """Restore into the shapes of a state; return the result and the reported lines."""

    def restore(seed=1, config=None, mesh_config=None, like=None):
        lines = []
        like = make_state(99, mesh_config) if like is None else like
        found = restore_newest(
            directory,
            specs_of(like),
            fingerprint=Place(seed=seed).fingerprint,
            config=to_json(small() if config is None else config),
            report=lines.append,
        )
        return found, lines

    return restore


def flip_a_bit(directory, step):
    """Flip one bit in the middle of the largest file of arrays."""
    files = [p for p in (directory / str(step) / "params").rglob("*") if p.is_file()]
    file = max(files, key=lambda p: p.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(bytes(data))


def truncate(directory, step):
    files = [p for p in (directory / str(step) / "optimizer").rglob("*") if p.is_file()]
    file = max(files, key=lambda p: p.stat().st_size)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def lose_the_manifest(directory, step):
    shutil.rmtree(directory / str(step) / "manifest")


def change_the_place(directory, step):
    (directory / str(step) / "data" / "state.json").write_text('{"position": 7}')


def empty(directory, step):
    shutil.rmtree(directory / str(step))
    (directory / str(step)).mkdir()


def pose_as_another(directory, step):
    shutil.copytree(directory / "1", directory / str(step), dirs_exist_ok=True)


DAMAGE = {
    flip_a_bit: "array embedding does not match its digest",
    truncate: "",
    lose_the_manifest: "it has no manifest",
    change_the_place: "the position in the data does not match its checksum",
    empty: "it has no manifest",
    pose_as_another: "its manifest is that of step 1",
}


def test_what_was_saved_comes_back(save, restore):
    save(1, 2)
    found, lines = restore()
    assert found.step == 2 and found.data == {"position": 20} and not lines
    assert_equal(found.state, make_state(2))


def test_nothing_to_restore(restore):
    assert restore() == (None, [])


def test_the_newest_are_kept(directory, save):
    save(1, 2, 3, keep=2)
    assert saved_steps(directory) == [2, 3]


def test_a_checkpoint_is_read_on_another_mesh(save, restore):
    save(1)
    found, _ = restore(mesh_config=MeshConfig(fsdp=4, data=2))
    assert_equal(found.state, make_state(1))
    assert found.state.params["embedding"].sharding.spec == PartitionSpec("fsdp")


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda f: f.__name__)
def test_a_damaged_checkpoint_is_skipped_loudly(directory, save, restore, damage):
    save(1, 2)
    damage(directory, 2)
    found, lines = restore()
    assert found.step == 1 and found.data == {"position": 10}
    assert_equal(found.state, make_state(1))
    (line,) = lines
    assert line.startswith("checkpoint 2 is damaged and is skipped: ")
    assert DAMAGE[damage] in line and "\n" not in line
    assert saved_steps(directory) == [1]
    assert (directory.parent / "damaged" / "2-0").is_dir()
    # If it had stayed, Orbax would silently drop this save.
    save(2)
    found, lines = restore()
    assert found.step == 2 and not lines


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EIO, "", "a/state.json"), "a/state.json: Input/output error;"),
        (OSError(errno.EMFILE, ""), r"checkpoints/2: Too many open files; raise the"),
        (MemoryError(), "checkpoints/2: Cannot allocate memory; free some memory"),
    ],
    ids=["EIO", "EMFILE", "memory"],
)
@pytest.mark.parametrize("part", ["manifest", "params"])
def test_what_cannot_be_read_is_not_damaged(
    directory, save, restore, monkeypatch, part, error, said
):
    save(1, 2)
    before = checkpoint.ocp.load_checkpointables

    def load(path, parts):
        if part in parts and path.endswith("2"):
            raise ValueError("no handler") from error
        return before(path, parts)

    monkeypatch.setattr(checkpoint.ocp, "load_checkpointables", load)
    with pytest.raises(ReadError, match=f"cannot read .*{said}"):
        restore()
    assert saved_steps(directory) == [1, 2]
    assert not (directory.parent / "damaged").exists()


def test_a_directory_that_cannot_be_read_is_not_empty(directory, save, monkeypatch):
    save(1)

    def denied(path):
        raise PermissionError(errno.EACCES, "", str(path))

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(ReadError, match="checkpoints: Permission denied; fix its pe"):
        saved_steps(directory)


def test_an_empty_directory_with_a_higher_number(directory, save, restore):
    save(1)
    (directory / "15").mkdir()
    found, lines = restore()
    assert found.step == 1 and len(lines) == 1


def test_folders_that_are_not_checkpoints_are_left_alone(directory, save, restore):
    junk = {"²", "٣", "0099", "-5", "notes"}
    for name in junk:
        (directory / name).mkdir(parents=True)
    (directory / "98").write_text("a file")
    save(1, 2, 3)
    found, lines = restore()
    assert found.step == 3 and not lines
    assert saved_steps(directory) == [1, 2, 3]
    assert junk < {path.name for path in directory.iterdir()}


def test_no_intact_checkpoint_is_an_error_every_time(directory, save, restore):
    save(1, 2)
    flip_a_bit(directory, 1)
    empty(directory, 2)
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"intact \(steps 1, 2\)") as refusal:
            restore()
    assert refusal.value.exit_code == 4
    assert saved_steps(directory) == [1, 2]


def test_changed_data_is_refused(directory, save, restore):
    save(1, 2)
    with pytest.raises(CheckpointError, match="data has changed: seed was 1 and is 5"):
        restore(seed=5)
    assert saved_steps(directory) == [1, 2]


def test_another_model_is_refused(small, save, restore):
    save(1)
    config = small()
    other = dataclasses.replace(
        config, model=dataclasses.replace(config.model, width=16)
    )
    with pytest.raises(MemzooError, match=r"model.width = 8"):
        restore(config=other)


def test_other_arrays_are_not_damage(directory, save, restore):
    save(1)
    with pytest.raises(CheckpointError, match=r"array embedding is \[\[64, 64\]"):
        restore(like=make_state(1, size=32))
    assert saved_steps(directory) == [1]


def test_a_save_that_orbax_would_drop_is_an_error(directory, save):
    save(5)
    with pytest.raises(SaveError, match=r"checkpoint 3 was not written: .* later one"):
        save(3)


def test_a_step_that_exists_is_not_written_again(save):
    save(5)
    with pytest.raises(SaveError, match=r"cannot write .*5: .*already exists"):
        save(5)


def test_a_failure_in_the_background_is_one_line(directory, small, monkeypatch):
    with Checkpoints(directory, keep=2) as checkpoints:
        checkpoints.save(1, make_state(1), Place(), to_json(small()))
        checkpoints.wait()
        monkeypatch.setattr(checkpoint.JsonFile, "save", save_to_a_full_disk)
        checkpoints.save(2, make_state(2), Place(), to_json(small()))
        with pytest.raises(SaveError, match="2: No space left on device; make room"):
            checkpoints.wait()
    assert saved_steps(directory) == [1]


def test_a_directory_that_cannot_be_made_leaves_no_thread(directory, small):
    """A thread that waits for the directory would keep the process from ending."""
    before = set(threading.enumerate())
    with (
        pytest.raises(SaveError, match=r"2: Not a directory; move that file away"),
        Checkpoints(directory, keep=2) as checkpoints,
    ):
        checkpoints.save(1, make_state(1), Place(), to_json(small()))
        checkpoints.wait()
        directory.rename(directory.with_name("elsewhere"))
        directory.write_text("")
        checkpoints.save(2, make_state(2), Place(), to_json(small()))
        checkpoints.wait()
    left = [t for t in threading.enumerate() if t not in before and not t.daemon]
    for thread in left:
        thread.join(timeout=5)
    assert not any(thread.is_alive() for thread in left)
    assert saved_steps(directory.with_name("elsewhere")) == [1]


@pytest.mark.parametrize("path", ["/proc/self", "/proc/self/checkpoints"])
def test_a_directory_that_cannot_be_written_is_refused_before_the_first_step(path):
    with pytest.raises(SaveError, match=f"cannot write {path}: "):
        Checkpoints(Path(path), keep=2)


async def save_to_a_full_disk(file, directory):
    async def write():
        await directory.await_creation()
        raise OSError(28, "No space left on device")

    return write()


def test_states_are_named_and_come_back():
    state = make_state(3)
    names = flatten(state)["optimizer"]
    assert "step" in names and any(
        name.endswith("mu/stack/groups/0/blocks/0/norm/scale") for name in names
    )
    assert_equal(unflatten(specs_of(state), flatten(state)), state)
