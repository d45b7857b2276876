"""JSON records with a checksum: one per file, or one per line of a .jsonl file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..configs.reading import ReadError, readable
from .manifest import DamagedError, checksum
from .writing import reason, replace_text

CHECKSUM = "checksum"


def seal(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record with a last field, the checksum of the others."""
    # Use the form that is read back: lists for tuples, and strings for keys.
    plain = json.loads(json.dumps(dict(record)))
    return plain | {CHECKSUM: checksum(plain)}


def unseal(value: Any, *, required: bool = True) -> dict[str, Any]:
    """Return the record that `seal` sealed, without its checksum.

    Args:
        required: if false, accept a record without a checksum, from an older memzoo.

    Raises:
        DamagedError: it is not a record, or does not match its checksum.
    """
    if not isinstance(value, dict):
        raise DamagedError("it is not a JSON object")
    record = {name: item for name, item in value.items() if name != CHECKSUM}
    if CHECKSUM not in value:
        if required:
            raise DamagedError("it has no checksum")
        return record
    if value[CHECKSUM] != checksum(record):
        raise DamagedError("it does not match its checksum")
    return record


def read_json(path: Path) -> Any:
    """Return the JSON value in a file.

    Raises:
        FileNotFoundError: there is no file.
        DamagedError: the file is not JSON.
        ReadError: the file cannot be read.
    """
    try:
        with readable(path):
            data = path.read_bytes()
    except NotADirectoryError as error:
        raise FileNotFoundError(*error.args, str(path)) from error
    except IsADirectoryError as error:
        raise ReadError(f"cannot read {path}: {reason(error)}; fix that") from error
    if not data.strip():
        raise DamagedError("it is empty")
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise DamagedError(f"it is not JSON: {said[:120]}") from error


def write_sealed(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record with its checksum, atomically.

    Raises:
        SaveError: it cannot be written; the old content of the file remains.
    """
    replace_text(path, json.dumps(seal(record), indent=1) + "\n")
