"""Parts of a checkpoint, as Orbax writes and reads them."""

import gc
import json
import warnings
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from ..configs.reading import check_readable, unreadable
from .manifest import DamagedError
from .orbax_messages import quiet_orbax
from .writing import reason


class JsonFile:
    """JSON value as a part of a checkpoint: one file, written by process 0."""

    def __init__(self, value: Any = None) -> None:
        self.value = value

    async def save(self, directory: Any) -> Awaitable[None]:
        text = json.dumps(self.value)

        async def write() -> None:
            path = await directory.await_creation()
            if jax.process_index() == 0:
                (path / "state.json").write_text(text)

        return write()

    async def load(self, directory: Any) -> Awaitable[None]:
        async def read() -> None:
            self.value = json.loads((directory / "state.json").read_text())

        return read()


def load_parts(directory: Path, step: int, parts: dict[str, Any]) -> dict[str, Any]:
    """Return these parts of a checkpoint, by name.

    Raises:
        ReadError: the system cannot read them; they may be intact.
        DamagedError: Orbax raised anything else.
    """
    quiet_orbax()
    folder = directory / str(step)
    try:
        return ocp.load_checkpointables(str(folder.absolute()), parts)
    except Exception as error:
        text = reason(error)
        failed = unreadable(error, folder)
    # Reads that Orbax never awaited would complain when they are collected.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "coroutine .* was never awaited")
        gc.collect()
    if failed is not None:
        raise failed
    # Orbax reports a folder that it may not enter as one without files.
    check_readable(folder)
    raise DamagedError(text)
