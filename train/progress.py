"""What a person sees of a run: a bar on a terminal, lines elsewhere."""

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
    """Standard error as it is now; what it takes no longer, once closed, is lost."""

    def __init__(self) -> None:
        # A bar on the screen puts a writer to us in its place.
        self._stream = sys.stderr

    def write(self, text: str, /) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding or "utf-8"


class Screen:
    """Progress on standard error; the run outlives a terminal that is closed.

    Args:
        name: of the run.
        steps: of the whole run.
        shown: false shows only what is said.
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
        """One line, shown in any case."""
        self._console.print(line, soft_wrap=True, markup=False)

    def at(self, step: int) -> None:
        """The run is at this step."""
        self._bar.update(self._task, completed=step)

    def compiling(self) -> None:
        """The first step is compiled; until it is done nothing else is to be seen."""
        self._bar.update(self._task, numbers="compiling")
        if self._shown and not self._console.is_terminal:
            self.say("compiling the training step")

    def numbers(self, line: Mapping[str, Any]) -> None:
        """The numbers of a log step."""
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
