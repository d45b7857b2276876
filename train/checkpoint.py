"""Checkpoints that are verified before use.

Orbax hides half-written checkpoints. It does not detect a flipped bit, and it treats
any directory with a number as its name as a checkpoint. So every checkpoint has a
manifest with a digest of every array, and a checkpoint that fails verification is not
used.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from memzoo.errors import CheckpointError

from ..configs.reading import check_readable, readable
from .digest import digests, signature
from .manifest import (
    SCHEMA,
    DamagedError,
    check_config,
    check_data,
    check_leaves,
    checksum,
    pack,
    unpack,
)
from .orbax_messages import quiet_orbax, quiet_unfinished
from .parts import JsonFile, load_parts
from .state import TrainState
from .writing import SaveError, check_writable, explained

Report = Callable[[str], None]

# Parts of a checkpoint besides the arrays.
DATA = "data"
MANIFEST = "manifest"


@runtime_checkable
class Resumable(Protocol):
    """Iterator whose position can be saved."""

    fingerprint: dict[str, Any]

    def get_state(self) -> dict[str, Any]: ...

    def set_state(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Restored:
    """Content of a checkpoint."""

    step: int
    state: TrainState
    data: dict[str, Any]


class Checkpoints:
    """Checkpoints of one run, written in the background.

    Use it as a context manager: leaving it waits for pending writes.

    Args:
        directory: holds one directory per step.
        keep: number of newest checkpoints to keep.

    Raises:
        SaveError: the directory is not writable.
    """

    def __init__(self, directory: Path, *, keep: int) -> None:
        self.directory = directory
        self._pending: tuple[int, Any] | None = None
        self._failed = False
        quiet_orbax()
        self.saved_step: int | None = max(saved_steps(directory), default=None)
        every: Any = ocp.training.save_decision_policies.FixedIntervalPolicy(1)
        newest: Any = ocp.training.preservation_policies.LatestN(keep)
        check_writable(directory)
        # If folders cannot be created in the background, threads wait five minutes for
        # them, and the process waits for the threads.
        at_once = ocp.options.AsyncOptions(create_directories_asynchronously=False)
        with explained(directory, Exception):
            self._checkpointer = ocp.training.Checkpointer(
                str(directory.absolute()),
                save_decision_policy=every,
                preservation_policy=newest,
                cleanup_tmp_directories=True,
                context=ocp.Context(async_options=at_once),
            )

    def save(
        self,
        step: int,
        state: TrainState,
        data: Resumable,
        config: Mapping[str, Any],
    ) -> None:
        """Start to write a checkpoint of this step, after the previous one is written.

        Raises:
            SaveError: this checkpoint or the previous one could not be written.
        """
        self.wait()
        arrays = flatten(state)
        manifest = {
            "schema": SCHEMA,
            "step": step,
            "leaves": {part: digests(leaves) for part, leaves in arrays.items()},
            "data": checksum(data.get_state()),
            "fingerprint": data.fingerprint,
            "config": dict(config),
        }
        parts: dict[str, Any] = {
            part: _nest(leaves) for part, leaves in arrays.items() if leaves
        }
        parts |= {
            DATA: JsonFile(data.get_state()),
            MANIFEST: JsonFile(pack(manifest)),
        }
        with _saving(self.directory / str(step)):
            response = self._checkpointer.save_checkpointables_async(step, parts)
        if response is None:
            raise SaveError(
                f"checkpoint {step} was not written: {self.directory} already holds a "
                "later one; move it away"
            )
        self._pending = (step, response)

    def wait(self) -> None:
        """Wait until nothing is being written.

        Raises:
            SaveError: the last checkpoint could not be written.
        """
        if self._pending is None:
            return
        (step, response), self._pending = self._pending, None
        # Orbax raises the same error again when it is closed.
        self._failed = True
        with _saving(self.directory / str(step)):
            response.result()
        if not (self.directory / str(step)).is_dir():
            raise SaveError(f"checkpoint {step} was not written to {self.directory}")
        self._failed = False
        self.saved_step = step

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        reported = kind is not None or self._failed
        try:
            with explained(self.directory, Exception):
                self.wait()
                self._checkpointer.close()
        except SaveError:
            # Report only the first error.
            if not reported:
                raise


def restore_newest(
    directory: Path,
    specs: TrainState,
    *,
    fingerprint: Mapping[str, Any],
    config: Mapping[str, Any],
    report: Report,
) -> Restored | None:
    """Return the newest checkpoint that verifies; `None` if none was ever written.

    A damaged checkpoint is skipped with a line that names its step and the reason. Once
    a valid one is found, the damaged ones are moved to `damaged/` beside `directory`:
    otherwise Orbax would silently drop saves of earlier steps.

    Raises:
        CheckpointError: no checkpoint verifies, although some exist, or the data
            changed.
        ReadError: a checkpoint cannot be read; nothing is moved.
        MemzooError: the config disagrees with the checkpoint's.
    """
    damaged: list[int] = []
    for step in sorted(saved_steps(directory), reverse=True):
        try:
            manifest, data = read_manifest(directory, step)
            check_config(manifest["config"], config)
            check_data(manifest["fingerprint"], fingerprint)
            arrays = load_arrays(directory, step, flatten(specs), manifest)
        except DamagedError as error:
            report(f"checkpoint {step} is damaged and is skipped: {error}")
            damaged.append(step)
            continue
        _move_aside(directory, damaged)
        return Restored(step, unflatten(specs, arrays), data)
    if damaged:
        raise CheckpointError(
            f"none of the checkpoints in {directory} is intact (steps "
            f"{', '.join(map(str, sorted(damaged)))}); restore one from a copy, or "
            "start a new run"
        )
    return None


def saved_steps(directory: Path) -> list[int]:
    """Return the steps of all checkpoints, including damaged ones, in order.

    Raises:
        ReadError: the directory cannot be read.
    """
    with readable(directory):
        if not directory.is_dir():
            return []
        return sorted(
            int(path.name)
            for path in directory.iterdir()
            if _is_step(path.name) and path.is_dir()
        )


@contextmanager
def _saving(path: Path) -> Iterator[None]:
    """Turn errors that Orbax raises while writing a checkpoint into SaveError."""
    try:
        with explained(path, Exception):
            yield
    except SaveError:
        quiet_unfinished()
        raise


def _is_step(name: str) -> bool:
    """Return whether memzoo would write this name: neither `0099` nor `²`."""
    return name.isascii() and name.isdigit() and str(int(name)) == name


def read_manifest(directory: Path, step: int) -> tuple[dict[str, Any], Any]:
    """Return the manifest of checkpoint `step` and its position in the data.

    Raises:
        DamagedError: the manifest or the position does not verify.
        ReadError: they cannot be read.
    """
    folder = directory / str(step)
    with readable(folder):
        found = (folder / MANIFEST).is_dir()
    if not found:
        check_readable(folder)
        raise DamagedError("it has no manifest")
    files = {MANIFEST: JsonFile(), DATA: JsonFile()}
    load_parts(directory, step, files)
    manifest = unpack(files[MANIFEST].value)
    if manifest["step"] != step:
        raise DamagedError(f"its manifest is that of step {manifest['step']}")
    if checksum(files[DATA].value) != manifest["data"]:
        raise DamagedError("the position in the data does not match its checksum")
    return manifest, files[DATA].value


def load_arrays(
    directory: Path,
    step: int,
    specs: Mapping[str, Mapping[str, Any]],
    manifest: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
    """Load and verify the arrays of the named parts, with the shardings of `specs`.

    Raises:
        DamagedError: the bytes are not those that were saved.
        CheckpointError: the checkpoint has other arrays.
        ReadError: the arrays cannot be read.
    """
    for part, leaves in specs.items():
        expected = {name: signature(leaf) for name, leaf in leaves.items()}
        check_leaves(manifest["leaves"][part], expected)
    wanted = {part: _nest(leaves) for part, leaves in specs.items() if leaves}
    loaded = load_parts(directory, step, wanted)
    arrays = {part: _unnest(loaded.get(part, {})) for part in specs}
    for part, leaves in arrays.items():
        found = digests(leaves)
        for name, digest in manifest["leaves"][part].items():
            if found[name] != digest:
                raise DamagedError(f"array {name} does not match its digest")
    return arrays


def flatten(state: TrainState) -> dict[str, dict[str, Any]]:
    """Return the arrays of a state by part and path."""
    leaves = jax.tree_util.tree_leaves_with_path(state.opt_state)
    return {
        "params": dict(state.params),
        "rest": dict(state.rest),
        "optimizer": {_name(path): leaf for path, leaf in leaves}
        | {"step": state.step},
    }


def unflatten(specs: TrainState, arrays: Mapping[str, Mapping[str, Any]]) -> TrainState:
    """Return a state from the arrays of `flatten`; `specs` gives the structure."""
    optimizer = arrays["optimizer"]
    opt_state = jax.tree_util.tree_map_with_path(
        lambda path, _: optimizer[_name(path)], specs.opt_state
    )
    failed = jax.device_put(jnp.full((), -1, jnp.int32), specs.failed_step.sharding)
    return TrainState(
        params=dict(arrays["params"]),
        rest=dict(arrays["rest"]),
        opt_state=opt_state,
        step=optimizer["step"],
        failed_step=failed,
    )


def _name(path: tuple[Any, ...]) -> str:
    """Return a path of jax.tree_util as words with `/` between them."""
    words = (
        getattr(key, "name", getattr(key, "idx", getattr(key, "key", None)))
        for key in path
    )
    return "state/" + "/".join(map(str, words))


def _nest(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested dictionaries, which Orbax shows as such."""
    nested: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *parents, last = name.split("/")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = leaf
    return nested


def _unnest(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            leaves |= _unnest(value, f"{prefix}{key}/")
        else:
            leaves[prefix + key] = value
    return leaves


def _move_aside(directory: Path, steps: list[int]) -> None:
    """Move damaged checkpoints to `damaged/` beside the directory."""
    if not steps:
        return
    if jax.process_index() == 0:
        target = directory.parent / "damaged"
        with explained(target):
            target.mkdir(exist_ok=True)
            for step in steps:
                number = len(list(target.glob(f"{step}-*")))
                shutil.move(directory / str(step), target / f"{step}-{number}")
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("memzoo damaged checkpoints")
