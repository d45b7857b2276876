"""Progress of a run: a bar on a terminal, lines elsewhere."""

import io
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

_LINE_SECONDS = 10.0


class _StandardError(io.TextIOBase):
    """Current standard error; text that it cannot take, because it is closed, is
    dropped."""

    def __init__(self) -> None:
        # A progress bar replaces sys.stderr by a writer to this object.
        self._stream = sys.stderr

    def write(self, text: str, /) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        # Python flushes at the end too, when the stream may be a closed file.
        with suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding or "utf-8"


class Screen:
    """Progress on standard error; the run survives a closed terminal.

    Args:
        name: name of the run.
        steps: steps of the whole run.
        shown: if false, print only the lines of `say`.
    """

    def __init__(self, name: str, steps: int, *, shown: bool) -> None:
        self._console = Console(file=cast(IO[str], _StandardError()), highlight=False)
        self._steps = steps
        self._shown = shown
        self._last_line = -float("inf")
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not (shown and self._console.is_terminal),
        )
        self._task = self._bar.add_task(name, total=steps, numbers="")

    def __enter__(self) -> "Screen":
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def say(self, line: str) -> None:
        """Print one line, even if progress is not shown."""
        self._console.print(line, soft_wrap=True, markup=False)

    def note(self, line: str) -> None:
        """Print one line if progress is shown."""
        if self._shown:
            self.say(line)

    def at(self, step: int) -> None:
        """Show that the run is at this step."""
        self._bar.update(self._task, completed=step)

    def compiling(self) -> None:
        """Show that the first step is being compiled, before there is other
        progress.
        """
        self._bar.update(self._task, numbers="compiling")
        if self._shown and not self._console.is_terminal:
            self.say("compiling the training step")

    def numbers(self, line: Mapping[str, Any]) -> None:
        """Show the numbers of a log step."""
        text = (
            f"loss {line['loss']:.4f}  accuracy {line['accuracy']:.3f}  "
            f"{line['tokens_per_second']:,.0f} tokens/s"
        )
        self._bar.update(self._task, numbers=text)
        if not self._shown or self._console.is_terminal:
            return
        now = time.monotonic()
        last = line["step"] == self._steps
        if last or now - self._last_line >= _LINE_SECONDS:
            self._last_line = now
            self.say(f"step {line['step']}/{self._steps}  {text}")
