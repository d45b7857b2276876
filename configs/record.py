"""Read the config.json of a run, and notice a change of it by its checksum."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memzoo.errors import MemzooError

from .serialise import SCHEMA


def checksum(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def load_record(path: Path, failure: type[MemzooError] = MemzooError) -> dict[str, Any]:
    """Return what the config.json at `path` holds; its config is not decoded.

    Raises:
        failure: it is no JSON object, of another schema, or lacks the config.
        OSError: it cannot be read.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise failure(
            f"{path} is not JSON ({error}); restore it or start a new run"
        ) from error
    if not isinstance(record, dict):
        raise failure(f"{path} holds no JSON object; give a run's config.json")
    if record.get("schema") != SCHEMA:
        raise failure(
            f"{path} has schema {record.get('schema')!r} and this memzoo reads "
            f"{SCHEMA}; use the version of memzoo that wrote it"
        )
    if "config" not in record:
        raise failure(f"{path} lacks the field 'config'; give a run's config.json")
    if not isinstance(record["config"], dict):
        said = repr(record["config"])[:60]
        raise failure(f"{path}: config is {said}; it must be an object")
    return record


def fits_checksum(record: Mapping[str, Any]) -> bool:
    """Return whether the config is the one that was written.

    Records of older versions, and those that people wrote, have no checksum.
    """
    return record.get("checksum", ...) in (..., checksum(record["config"]))


def check_unchanged(
    path: Path, record: Mapping[str, Any], failure: type[MemzooError] = MemzooError
) -> None:
    """Refuse a config that does not fit its checksum.

    Raises:
        failure: it does not.
    """
    if not fits_checksum(record):
        raise failure(
            f"{path} has changed since memzoo wrote it: its config does not fit its "
            "checksum; restore it, or remove its line 'checksum' to take it as it is"
        )
