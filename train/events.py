"""TensorBoard event files, written immediately and in order.

tensorboardX's own writer passes events to a thread, where a full disk goes unnoticed.
It also names files by the second, so that two short runs overwrite each other.
"""

import re
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX.proto import event_pb2, summary_pb2
from tensorboardX.record_writer import masked_crc32c

# Protocol buffers create their classes at import, invisible to type checkers.
Event: Any = event_pb2.Event  # pyright: ignore[reportAttributeAccessIssue]
SessionLog: Any = event_pb2.SessionLog  # pyright: ignore[reportAttributeAccessIssue]
Summary: Any = summary_pb2.Summary  # pyright: ignore[reportAttributeAccessIssue]

_PREFIX = "events.out.tfevents."
# Other programs write to this folder too; files without this ending are not touched.
_SUFFIX = ".memzoo"
_NAME = re.compile(re.escape(_PREFIX) + "([0-9]{10,})" + re.escape(_SUFFIX))


class EventFile:
    """Events of one stretch of a run.

    Args:
        directory: holds one file per stretch.
        restored_step: where the stretch begins; events of later steps are dropped, or
            hidden if they are in the file of an earlier stretch.

    Raises:
        OSError: a file cannot be written; `scalars` raises it too.
    """

    def __init__(self, directory: Path, restored_step: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for path in directory.iterdir():
            ours = _NAME.fullmatch(path.name)
            if ours and int(ours[1]) >= restored_step and path.is_file():
                path.unlink()
        self._path = directory / f"{_PREFIX}{restored_step:010d}{_SUFFIX}"
        self._write(Event(file_version="brain.Event:2"))
        begin = SessionLog(status=SessionLog.START)
        self._write(Event(step=restored_step + 1, session_log=begin))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write one number per name, for this step."""
        summary = Summary(
            value=[
                Summary.Value(tag=name, simple_value=value)
                for name, value in values.items()
            ]
        )
        self._write(Event(step=step, summary=summary))

    def _write(self, event: Any) -> None:
        """Write one record: length, its checksum, the event, its checksum."""
        event.wall_time = time.time()
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        record = length + _checksum(length) + data + _checksum(data)
        with self._path.open("ab") as file:
            file.write(record)


def _checksum(data: bytes) -> bytes:
    return struct.pack("<I", masked_crc32c(data))
