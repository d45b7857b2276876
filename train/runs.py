"""Directory of a run: its config.json, and the model in its checkpoints."""

import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import jax
from flax import nnx

from memzoo.errors import CheckpointError, InputError

from ..configs.experiment import ExperimentConfig, MeshConfig
from ..configs.reading import readable
from ..configs.record import check_unchanged, checksum, fits_checksum, load_record
from ..configs.serialise import SCHEMA, from_json, to_json
from ..models.language_model import LanguageModel
from .checkpoint import Report, load_arrays, read_manifest, saved_steps
from .manifest import DamagedError, check_same_config
from .sharding import make_mesh, tree_sharding
from .state import Template, make_template
from .writing import explained, replace_text

CONFIG = "config.json"
CHECKPOINTS = "checkpoints"

Status = Literal["running", "done", "preempted", "stopped_early", "failed"]


@dataclass(frozen=True)
class LoadedRun:
    """Trained model with its config and step."""

    config: ExperimentConfig
    model: LanguageModel
    step: int


def write_record(
    run_dir: Path,
    config: ExperimentConfig,
    status: Status,
    command: Sequence[str] | None = None,
) -> None:
    """Write config.json, which says what this run is and how far it got.

    Raises:
        SaveError: it cannot be written.
    """
    if jax.process_index() > 0:
        return
    with explained(run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
    encoded = to_json(config)
    record = {
        "schema": SCHEMA,
        "status": status,
        "command": list(sys.argv if command is None else command),
        "versions": {name: version(name) for name in ("memzoo", "jax", "flax", "optax")}
        | {"python": platform.python_version()},
        "commit": _commit(),
        "checksum": checksum(encoded),
        "config": encoded,
    }
    replace_text(run_dir / CONFIG, json.dumps(record, indent=2) + "\n")


def read_record(run_dir: Path) -> dict[str, Any] | None:
    """Return the content of config.json, not decoded; `None` if it is missing.

    Raises:
        CheckpointError: it is not a record of a run.
        ReadError: it cannot be read.
    """
    path = run_dir / CONFIG
    with readable(path):
        return load_record(path, CheckpointError) if path.is_file() else None


def load_run(
    run_dir: str | Path,
    step: int | None = None,
    *,
    mesh: MeshConfig | None = None,
    report: Report | None = None,
    trust: bool = False,
) -> LoadedRun:
    """Return the model in a run's checkpoint, verified by its digests.

    Only the run's directory is read, without the optimizer or the data.

    Args:
        run_dir: the run's directory.
        step: step of the checkpoint; `None`: the newest intact one.
        mesh: shards the model over devices; `None`: one device.
        report: called with a line for every damaged checkpoint that is skipped for an
            intact one.
        trust: import the modules of classes outside memzoo that config.json names,
            which runs their code. Modules that are already loaded need no trust.

    Raises:
        CheckpointError: the run, the step or an intact checkpoint is missing; or
            config.json does not match the checkpoint, or needs trust.
        ReadError: a file of the run cannot be read.
    """
    run_dir = Path(run_dir)
    path = run_dir / CONFIG
    record = read_record(run_dir)
    if record is None:
        raise CheckpointError(f"{run_dir} is not a run: {_neighbours(run_dir)}")
    try:
        config = from_json(record["config"], trust=trust)
    except InputError as error:
        raise CheckpointError(f"{path}: {error}") from error
    steps = _saved(run_dir, step, record.get("status"))
    reasons = []
    for candidate in steps if step is None else [step]:
        directory = run_dir / CHECKPOINTS
        try:
            manifest, _ = read_manifest(directory, candidate)
            _check_record(path, record, config, manifest["config"])
            model = _load_model(directory, candidate, config, mesh, manifest)
        except DamagedError as error:
            reasons.append(f"checkpoint {candidate} of {run_dir} is damaged: {error}")
            continue
        if report is not None:
            for line in reasons:
                report(line)
        return LoadedRun(config, model, candidate)
    others = [str(s) for s in sorted(steps) if s != step]
    raise CheckpointError(
        f"{reasons[0]}; "
        + (
            f"other steps: {', '.join(others)}"
            if step is not None and others
            else "no other one is intact: copy its folder back from elsewhere, or "
            "train again"
        )
    )


def _check_record(
    path: Path,
    record: Mapping[str, Any],
    config: ExperimentConfig,
    saved: Mapping[str, Any],
) -> None:
    """Raise CheckpointError if config.json does not match the checkpoint."""
    # Check the fields first: they say more than the checksum.
    check_same_config(path, saved, config, intact=fits_checksum(record))
    check_unchanged(path, record, CheckpointError)


def _load_model(
    directory: Path,
    step: int,
    config: ExperimentConfig,
    mesh: MeshConfig | None,
    manifest: Mapping[str, Any],
) -> LanguageModel:
    """Return the model of checkpoint `step`; raises the same errors as
    `load_arrays`.
    """
    template = make_template(lambda key: config.model.build(nnx.Rngs(key)))
    arrays = load_arrays(directory, step, _model_specs(template, mesh), manifest)
    model = template.merge(arrays["params"], arrays["rest"])
    assert isinstance(model, LanguageModel)
    return model


def _saved(run_dir: Path, step: int | None, status: object) -> list[int]:
    """Return the steps of the run's checkpoints, newest first.

    Raises:
        CheckpointError: the step is missing, or there is no checkpoint.
    """
    steps = saved_steps(run_dir / CHECKPOINTS)
    if not steps:
        raise CheckpointError(
            f"run {run_dir} has no checkpoint yet (its status is {status}); continue "
            "training it"
        )
    if step is not None and step not in steps:
        raise CheckpointError(
            f"run {run_dir} has no checkpoint of step {step}; it has steps "
            f"{', '.join(map(str, steps))}"
        )
    return list(reversed(steps))


def _model_specs(
    template: Template, mesh: MeshConfig | None
) -> dict[str, dict[str, Any]]:
    """Return shapes, types and shardings of the model's arrays."""
    params, rest = template.shapes()
    parts = {"params": params, "rest": rest}
    if mesh is None:
        one = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        places = jax.tree.map(lambda _: one, parts)
    else:
        places = tree_sharding(make_mesh(mesh), params, parts)
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=place
        ),
        parts,
        places,
    )


def _neighbours(run_dir: Path) -> str:
    """Return which runs exist near a missing one."""
    # A bare name probably means a run in `runs/`, where training puts runs.
    for parent in [run_dir.parent, *([] if run_dir.is_absolute() else [Path("runs")])]:
        names = (
            sorted(p.name for p in parent.iterdir() if (p / CONFIG).is_file())
            if parent.is_dir()
            else []
        )
        if names:
            return f"{parent} holds {', '.join(names[:10])}"
    return f"{run_dir.parent} holds no runs; train one first"


def _commit() -> str | None:
    """Return the commit of the source tree; `None` for an installed package."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
