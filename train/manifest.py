"""Manifest of a checkpoint: digests, data and config, with a checksum."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from memzoo.errors import CheckpointError, MemzooError

from ..configs.experiment import ExperimentConfig
from ..configs.record import checksum
from ..configs.serialise import from_json, to_json
from .digest import Digest

SCHEMA = 1

# Fields that may differ between a run and its continuation: duration, computation and
# monitoring, not the result. The task is compared by the data it gives.
FREE_FIELDS = frozenset(
    {
        "checkpoint_every",
        "data_workers",
        "evaluate_every",
        "evaluation_examples",
        "gradient_accumulation",
        "keep_checkpoints",
        "log_every",
        "mesh",
        "name",
        "steps",
        "stop_at_accuracy",
        "task",
    }
)

_ABSENT = "(absent)"


class DamagedError(Exception):
    """Error for a checkpoint or record that does not hold what was saved; says why."""


def pack(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest with its checksum."""
    return {"manifest": manifest, "checksum": checksum(manifest)}


def unpack(metadata: Any) -> dict[str, Any]:
    """Return the manifest that `pack` packed.

    Raises:
        DamagedError: there is no manifest, or it does not match its checksum.
        CheckpointError: a later version of memzoo wrote it.
    """
    if not isinstance(metadata, dict) or "manifest" not in metadata:
        raise DamagedError("it has no manifest")
    manifest = metadata["manifest"]
    if checksum(manifest) != metadata.get("checksum"):
        raise DamagedError("its manifest does not match the manifest's checksum")
    if manifest["schema"] != SCHEMA:
        raise CheckpointError(
            f"the checkpoint has schema {manifest['schema']} and this memzoo reads "
            f"{SCHEMA}; use the version of memzoo that wrote it"
        )
    return manifest


def check_config(saved: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    """Check that a run may be continued with this config.

    Raises:
        MemzooError: names the first field that differs, with both values.
    """
    saved = _completed(saved)
    before = {k: v for k, v in saved.items() if k not in FREE_FIELDS}
    now = {k: v for k, v in present.items() if k not in FREE_FIELDS}
    for where, old, new in _differences(before, now, ""):
        raise MemzooError(
            f"the run was started with {where} = {_short(old)} and the config now has "
            f"{_short(new)}; give the old value, or start a new run"
        )


def check_same_config(
    path: Path, saved: Mapping[str, Any], config: ExperimentConfig, *, intact: bool
) -> None:
    """Refuse a config.json with another model or other data than its checkpoint.

    Args:
        path: path of the config.json, for the message.
        saved: the config in the checkpoint's manifest.
        config: the one in config.json.
        intact: whether config.json matches its checksum. Then fields that a
            continuation may change may differ, but not the data.

    Raises:
        CheckpointError: names the fields that differ, the first three with values.
    """
    fields, places = FREE_FIELDS - {"task"}, set(_places(config.task, "task"))
    found = list(_differences(_completed(saved), to_json(config), ""))
    if intact:
        found = [
            (where, old, new)
            for where, old, new in found
            if where not in places and where.partition(".")[0] not in fields
        ]
    if found:
        said = ", ".join(
            f"{where} was {_short(old)} and is {_short(new)}"
            for where, old, new in found[:3]
        )
        more = f", and {len(found) - 3} more" if len(found) > 3 else ""
        raise CheckpointError(
            f"{path} does not match the checkpoint: {said}{more}; restore it, and to "
            "measure something else, use the options of the command"
        )


def _short(value: Any) -> str:
    """Return a short form of a value, which may be a model's whole pattern."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _completed(saved: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the saved config, with defaults for fields that are newer than the run."""
    try:
        return to_json(from_json(dict(saved)))
    except ValueError:
        # It names a class that is not loaded, or a value that is no longer allowed.
        # Then it differs from every present config, and the caller finds where.
        return saved


def _places(task: Any, where: str) -> Iterator[str]:
    """Yield fields of a task that change no rows, such as the path of a folder."""
    for field in dataclasses.fields(task):
        inner = getattr(task, field.name)
        if dataclasses.is_dataclass(inner):
            yield from _places(inner, f"{where}.{field.name}")
        elif not field.metadata.get("changes_data", True):
            yield f"{where}.{field.name}"


def check_data(saved: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    """Check that the data is what the run was started with.

    Raises:
        CheckpointError: names the first field that differs, with both values.
    """
    present = json.loads(json.dumps(present))
    for where, old, new in _differences(saved, present, ""):
        # Ignore a field that the run did not know and that is None now.
        if old is _ABSENT and new is None:
            continue
        raise CheckpointError(
            f"the data has changed: {where} was {old!r} and is {new!r}; use the "
            "original data, or start a new run"
        )


def check_leaves(saved: Mapping[str, Digest], expected: Mapping[str, Any]) -> None:
    """Check that the checkpoint has the arrays that this code expects.

    Args:
        saved: the manifest's digests.
        expected: shape and type of every array, by path.

    Raises:
        CheckpointError: names the first array that differs.
    """
    found = {name: digest[:2] for name, digest in saved.items()}
    for where, old, new in _differences(found, expected, "", depth=1):
        raise CheckpointError(
            f"array {where} is {old} in the checkpoint and {new} in the model that "
            "this memzoo builds from its config; use the version that wrote it"
        )


def _differences(
    old: Any, new: Any, where: str, depth: int = -1
) -> Iterator[tuple[str, Any, Any]]:
    """Yield the places where two JSON values differ, with both values."""
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping) and depth:
        for name in [*new, *(key for key in old if key not in new)]:
            inner = f"{where}.{name}" if where else name
            before, now = old.get(name, _ABSENT), new.get(name, _ABSENT)
            yield from _differences(before, now, inner, depth - 1)
    elif (
        isinstance(old, list)
        and isinstance(new, list)
        and len(old) == len(new)
        and depth
    ):
        for index, (before, now) in enumerate(zip(old, new, strict=True)):
            yield from _differences(before, now, f"{where}.{index}", depth - 1)
    else:
        yield where, old, new
