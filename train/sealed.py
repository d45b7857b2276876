"""JSON records under a checksum: a file each, or a line each of a .jsonl file."""

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
    # As it will be read back: with lists for tuples, and strings for keys.
    plain = json.loads(json.dumps(dict(record)))
    return plain | {CHECKSUM: checksum(plain)}


def unseal(value: Any, *, required: bool = True) -> dict[str, Any]:
    """Return the record that `seal` sealed, without its checksum.

    Args:
        required: False: a record without a checksum, of an older memzoo, is taken as
            it is.

    Raises:
        DamagedError: it is no record, or does not fit its checksum.
    """
    if not isinstance(value, dict):
        raise DamagedError("it is no JSON object")
    record = {name: item for name, item in value.items() if name != CHECKSUM}
    if CHECKSUM not in value:
        if required:
            raise DamagedError("it has no checksum")
        return record
    if value[CHECKSUM] != checksum(record):
        raise DamagedError("it does not fit its checksum")
    return record


def read_json(path: Path) -> Any:
    """Return the JSON value in a file.

    Raises:
        FileNotFoundError: there is no file.
        DamagedError: it holds no JSON.
        ReadError: it cannot be read.
    """
    try:
        with readable(path):
            data = path.read_bytes()
    except NotADirectoryError as error:
        raise FileNotFoundError(*error.args, str(path)) from error
    except IsADirectoryError as error:
        raise ReadError(f"cannot read {path}: {reason(error)}; mend that") from error
    if not data.strip():
        raise DamagedError("it is empty")
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise DamagedError(f"it is no JSON: {said[:120]}") from error


def write_sealed(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record under its checksum: at no moment half of it.

    Raises:
        SaveError: it cannot be written; what the file held is still there.
    """
    replace_text(path, json.dumps(seal(record), indent=1) + "\n")
