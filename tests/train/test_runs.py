"""Loading of runs."""

import gc
import json
import os
import re
import shutil
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from memzoo.configs.experiment import MeshConfig
from memzoo.errors import CheckpointError
from memzoo.models.language_model import LanguageModel
from memzoo.train import runs
from memzoo.train.checkpoint import Checkpoints
from memzoo.train.manifest import FREE_FIELDS
from memzoo.train.runs import load_run, read_record, write_record
from memzoo.train.state import by_path

# Loads runs as a plain user, since permissions do not bind root; the first run also
# with too few open files.
AS_A_USER = """
import os, resource, sys
import jax
jax.config.update("jax_enable_compilation_cache", False)
from memzoo.errors import MemzooError
from memzoo.train.runs import load_run
if os.getuid() == 0:
    os.setuid(65534)

def load(run):
    try:
        print("loaded", load_run(run, report=print).step)
    except MemzooError as error:
        print(error.exit_code, error)

load(sys.argv[1])
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
used = len(os.listdir("/proc/self/fd"))
resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
load(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
for run in sys.argv[2:]:
    load(run)
"""

DENIED = [
    "config.json",
    "checkpoints",
    "checkpoints/7",
    "checkpoints/7/manifest",
    "checkpoints/7/manifest/state.json",
    "checkpoints/7/params",
    "checkpoints/7/params/manifest.ocdbt",
]


class Place:
    def __init__(self):
        self.fingerprint = {}

    def get_state(self):
        return {"position": 0}

    def set_state(self, state):
        raise AssertionError("a loaded run does not touch the data")


@pytest.fixture(scope="module")
def saved(program, small, tmp_path_factory):
    """A run with checkpoints 3 and 7 of its initial state."""
    run_dir = tmp_path_factory.mktemp("runs") / "saved"
    config = small()
    write_record(run_dir, config, "done", ["memzoo", "train"])
    with jax.set_mesh(program.mesh):
        state = program.init()
        with Checkpoints(run_dir / "checkpoints", keep=3) as checkpoints:
            for step in (3, 7):
                data = runs.to_json(config)
                checkpoints.save(step, state, Place(), data)
    return run_dir, state.params


@pytest.fixture
def run_dir(saved, tmp_path):
    """Return a copy that a test may break."""
    return shutil.copytree(saved[0], tmp_path / "run")


def assert_is(model, params):
    found = by_path(nnx.state(model, nnx.Param))
    assert set(found) == set(params)
    for name, value in params.items():
        np.testing.assert_array_equal(found[name], value)


def test_the_newest_checkpoint_is_loaded(saved, small):
    loaded = load_run(saved[0])
    assert loaded.step == 7 and loaded.config == small()
    assert isinstance(loaded.model, LanguageModel)
    assert_is(loaded.model, saved[1])


def test_a_step_is_loaded_onto_a_mesh(saved):
    loaded = load_run(saved[0], 3, mesh=MeshConfig(fsdp=2, tensor=4))
    assert loaded.step == 3
    assert_is(loaded.model, saved[1])
    spec = loaded.model.embedding[...].sharding.spec
    assert spec == PartitionSpec("tensor", "fsdp")


def test_the_record(saved, small):
    record = read_record(saved[0])
    assert record["status"] == "done" and record["command"] == ["memzoo", "train"]
    assert set(record["versions"]) == {"memzoo", "jax", "flax", "optax", "python"}
    assert len(record["commit"] or "0" * 40) == 40


def test_only_process_0_writes_the_record(small, tmp_path, monkeypatch):
    monkeypatch.setattr(runs.jax, "process_index", lambda: 1)
    write_record(tmp_path / "run", small(), "running")
    assert not (tmp_path / "run").exists()


def test_a_missing_run_names_its_neighbours(saved, tmp_path):
    with pytest.raises(CheckpointError, match=r"other is not a run: .* holds saved"):
        load_run(saved[0].parent / "other")
    with pytest.raises(CheckpointError, match="holds no runs; train one first"):
        load_run(tmp_path / "nowhere" / "run")
    assert read_record(tmp_path) is None


def test_a_bare_name_that_is_no_run_names_those_in_runs(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(saved[0], tmp_path / "runs" / saved[0].name)
    for name in ("nowhere", "runs/nowhere"):
        with pytest.raises(CheckpointError, match=f"{name} .*: runs holds sav"):
            load_run(name)


def test_a_missing_step_names_the_others(saved):
    with pytest.raises(
        CheckpointError, match="no checkpoint of step 5; it has steps 3,"
    ):
        load_run(saved[0], 5)


def test_a_run_without_checkpoints(run_dir):
    shutil.rmtree(run_dir / "checkpoints")
    (run_dir / "checkpoints" / "7.orbax-checkpoint-tmp").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"no checkpoint yet .its status is done"):
        load_run(run_dir)


def test_a_half_written_checkpoint_is_passed_over(run_dir):
    shutil.rmtree(run_dir / "checkpoints" / "7" / "params")
    lines = []
    assert load_run(run_dir, report=lines.append).step == 3
    assert len(lines) == 1 and "checkpoint 7 of" in lines[0]
    assert (run_dir / "checkpoints" / "7").is_dir()
    with pytest.raises(CheckpointError, match=r"7 of .* is damaged: .* other steps: 3"):
        load_run(run_dir, 7)


def test_no_intact_checkpoint(run_dir):
    for step in (3, 7):
        shutil.rmtree(run_dir / "checkpoints" / str(step) / "manifest")
    with pytest.raises(
        CheckpointError,
        match=r"7 of .* is damaged: it has no manifest; no other one is intact: copy",
    ):
        load_run(run_dir, report=pytest.fail)


def test_files_that_are_cut_off_say_nothing_else(run_dir, capfd, caplog):
    shutil.rmtree(run_dir / "checkpoints" / "3")
    files = list(run_dir.glob("checkpoints/7/*/ocdbt.process_0/d/*"))
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[:200])
    for _ in range(3):  # what is left of one reading is reported during the next
        with pytest.raises(CheckpointError, match=r"7 of .*; no other .* or train a"):
            load_run(run_dir, report=pytest.fail)
    gc.collect()
    assert capfd.readouterr() == ("", "") and not caplog.records


def test_a_record_that_cannot_be_read(run_dir):
    path = run_dir / "config.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"schema": 9}))
    with pytest.raises(CheckpointError, match="has schema 9 and this memzoo reads 1"):
        load_run(run_dir)
    path.write_text("{")
    with pytest.raises(CheckpointError, match=r"config.json is not JSON .*; restore"):
        load_run(run_dir)


def changed(run_dir, path, new, *, checksum):
    """Change config.json; with `checksum`, also its checksum."""
    file = run_dir / "config.json"
    record = json.loads(file.read_text())
    *inner, last = path
    place = record["config"]
    for key in inner:
        place = place[key]
    place[last] = new
    if checksum is None:
        del record["checksum"]
    elif checksum:
        record["checksum"] = runs.checksum(record["config"])
    file.write_text(json.dumps(record))


IN_LAYER = ("model", "pattern", 0, "layers", 0)


@pytest.mark.parametrize("checksum", [False, True, None])
@pytest.mark.parametrize(
    ("path", "new", "field"),
    [
        (("model", "norm_epsilon"), 0.5, "model.norm_epsilon was 1e-0. and is 0.5"),
        (
            (*IN_LAYER, "num_heads"),
            1,
            "model.pattern.0.layers.0.num_heads was 2 and is",
        ),
        (
            ("model", "pattern", 0, "repeats"),
            3,
            "model.pattern.0.repeats was 2 and is 3",
        ),
        (("task", "length"), 18, "task.length was 16 and is 18"),
        (("task", "seed"), 2, "task.seed was 0 and is 2"),
        (("seed",), 3, "seed was 0 and is 3"),
        (("batch_size",), 16, "batch_size was 8 and is 16"),
    ],
)
def test_a_config_that_is_not_the_checkpoints(run_dir, path, new, field, checksum):
    """The checkpoint knows its config, whatever the checksum of config.json says."""
    changed(run_dir, path, new, checksum=checksum)
    with pytest.raises(CheckpointError, match=field) as caught:
        load_run(run_dir)
    assert "config.json does not match the checkpoint: " in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_what_a_continuation_may_change_is_guarded_by_the_checksum(run_dir, small):
    changed(run_dir, ("evaluation_examples",), 9, checksum=True)
    assert load_run(run_dir).config == small(evaluation_examples=9)
    changed(run_dir, ("evaluation_examples",), 10, checksum=False)
    with pytest.raises(CheckpointError, match="evaluation_examples was 8 and is 10; r"):
        load_run(run_dir)
    changed(run_dir, ("evaluation_examples",), 11, checksum=None)
    assert load_run(run_dir).config == small(evaluation_examples=11)


def test_a_checksum_that_is_not_the_configs(run_dir):
    file = run_dir / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"checksum": "00"}))
    with pytest.raises(CheckpointError, match="has changed since memzoo wrote it: its"):
        load_run(run_dir)


@pytest.mark.parametrize("guarded", [True, False], ids=["", "before checksums"])
def test_no_flip_of_a_bit_loads_another_config(run_dir, small, monkeypatch, guarded):
    """Each flip is refused or harmless; only the checksum covers fields that may
    change."""
    file = run_dir / "config.json"
    record = json.loads(file.read_text())
    if not guarded:
        del record["checksum"]
        file.write_text(json.dumps(record, indent=2))
    manifest = runs.read_manifest(run_dir / "checkpoints", 7)
    model = load_run(run_dir).model
    monkeypatch.setattr(runs, "read_manifest", lambda *_: manifest)
    monkeypatch.setattr(runs, "_load_model", lambda *_: model)
    content = file.read_bytes()
    free = dict.fromkeys(FREE_FIELDS - {"task"})
    refused = 0
    for bit in range(0, 8 * len(content), 29):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        try:
            config = load_run(run_dir).config
        except CheckpointError as error:
            refused += 1
            assert "\n" not in str(error)
            continue
        expected = small()
        if not guarded:
            names = {name: getattr(config, name) for name in free}
            expected = small(**names)
        assert config == expected, bit
    assert refused > 300


def test_a_class_outside_memzoo_needs_trust(run_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(runs.sys, "path", [*runs.sys.path, str(tmp_path)])
    (tmp_path / "ends_it.py").write_text("raise SystemExit(0)")
    changed(run_dir, (*IN_LAYER, "type"), "ends_it:X", checksum=True)
    with pytest.raises(CheckpointError, match=r"ends_it:X, which is not .* --trust"):
        load_run(run_dir)
    with pytest.raises(CheckpointError, match=r"imported \(SystemExit: 0\); run in"):
        load_run(run_dir, trust=True)


def test_what_may_not_be_read_is_not_damaged(saved, run_python):
    with tempfile.TemporaryDirectory() as folder:
        runs = [Path(folder) / f"run{index}" for index in range(len(DENIED) + 1)]
        for run in runs:
            shutil.copytree(saved[0], run)
        os.chmod(folder, 0o755)
        paths = [run / name for run, name in zip(runs[1:], DENIED, strict=True)]
        for path in paths:
            path.chmod(0)
        done = run_python(AS_A_USER, *runs)
        for path in paths:
            path.chmod(0o755)
    lines = done.stdout.splitlines()
    assert lines[0] == "loaded 7", done
    assert re.fullmatch(r"1 cannot read .*: Too many open files; raise .*", lines[1])
    assert len(lines) == 2 + len(paths)
    for line, path in zip(lines[2:], paths, strict=True):
        assert line.startswith(f"1 cannot read {path}")
        assert line.endswith(": Permission denied; fix its permissions")
