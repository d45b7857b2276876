"""config.json of a run: reading, and a checksum that detects changes."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memzoo.errors import MemzooError

from .serialise import SCHEMA


def checksum(value: Any) -> str:
    """Return the SHA-256 of a JSON value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def load_record(path: Path, failure: type[MemzooError] = MemzooError) -> dict[str, Any]:
    """Return the content of the config.json at `path`, with its config not decoded.

    Raises:
        failure: it is not a JSON object, has another schema, or lacks the config.
        OSError: it cannot be read.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise failure(
            f"{path} is not JSON ({error}); restore it or start a new run"
        ) from error
    if not isinstance(record, dict):
        raise failure(f"{path} is not a JSON object; give a run's config.json")
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
    """Return whether the config matches its checksum.

    Records of older versions, and hand-written ones, have no checksum.
    """
    return record.get("checksum", ...) in (..., checksum(record["config"]))


def check_unchanged(
    path: Path, record: Mapping[str, Any], failure: type[MemzooError] = MemzooError
) -> None:
    """Refuse a config that does not match its checksum.

    Raises:
        failure: it does not match.
    """
    if not fits_checksum(record):
        raise failure(
            f"{path} has changed since memzoo wrote it: its config does not match its "
            "checksum; restore it, or remove its line 'checksum' to accept the change"
        )
