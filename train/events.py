"""TensorBoard event files, written at once and in order.

tensorboardX's own writer hands events to a thread, where a full disk goes unseen, and
names files by the second, so that two short runs write over each other.
"""

import re
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX.proto import event_pb2, summary_pb2
from tensorboardX.record_writer import masked_crc32c

# The protocol buffers make their classes at import, unseen by type checkers.
Event: Any = event_pb2.Event  # pyright: ignore[reportAttributeAccessIssue]
SessionLog: Any = event_pb2.SessionLog  # pyright: ignore[reportAttributeAccessIssue]
Summary: Any = summary_pb2.Summary  # pyright: ignore[reportAttributeAccessIssue]

_PREFIX = "events.out.tfevents."
# Others write to this folder too; what does not end so is not touched.
_SUFFIX = ".memzoo"
_NAME = re.compile(re.escape(_PREFIX) + "([0-9]{10,})" + re.escape(_SUFFIX))


class EventFile:
    """The events of one stretch of a run.

    Args:
        directory: holds one file for every stretch.
        restored_step: where the stretch begins; what was reported of later steps is
            dropped, or hidden where it stands in the file of an earlier stretch.

    Raises:
        OSError: something cannot be written; so does `scalars`.
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
        """One number of every name, for this step."""
        summary = Summary(
            value=[
                Summary.Value(tag=name, simple_value=value)
                for name, value in values.items()
            ]
        )
        self._write(Event(step=step, summary=summary))

    def _write(self, event: Any) -> None:
        """One record: length, its checksum, the event, its checksum."""
        event.wall_time = time.time()
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        record = length + _checksum(length) + data + _checksum(data)
        with self._path.open("ab") as file:
            file.write(record)


def _checksum(data: bytes) -> bytes:
    return struct.pack("<I", masked_crc32c(data))
