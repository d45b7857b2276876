"""Progress of a sweep on standard error."""

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from .number_text import duration_text
from .results import ResultRow


def say(line: str) -> None:
    """Print one line on standard error, even if progress is not shown."""
    console = Console(stderr=True, highlight=False)
    console.print(f"memzoo: {line}", soft_wrap=True, markup=False)


class Announcer:
    """Progress of a sweep on standard error: a bar on a terminal, lines elsewhere.

    Args:
        total: number of trainings in the sweep.
        missing: number of trainings that are not done yet.
        steps: most optimizer steps of a training.
        shown: whether to show anything.
        clock: function that returns monotonic seconds.
    """

    def __init__(
        self, total: int, missing: int, steps: int, *, shown: bool, clock=time.monotonic
    ) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._missing, self._total, self._steps = missing, total, steps
        self._shown, self._clock = shown, clock
        self._ended, self._begin = 0, clock()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            disable=not (shown and self._console.is_terminal),
        )
        self._task = self._bar.add_task("", total=max(1, missing), left="")

    def __enter__(self) -> "Announcer":
        if self._total > self._missing:
            done = self._total - self._missing
            self._say(f"{done} of {self._total} trainings are done already")
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def begin(self, label: str) -> None:
        """Show that a training begins."""
        number = self._total - self._missing + self._ended + 1
        self._bar.update(
            self._task, description=f"{number}/{self._total} {label}", left="compiling"
        )

    def step(self, line: dict[str, Any]) -> None:
        """Show the training's progress from a line of metrics.jsonl."""
        done = self._ended + line["step"] / self._steps
        self._bar.update(self._task, completed=done, left=self.time_left(done))

    def end(self, label: str, rows: Sequence[ResultRow], seconds: float) -> None:
        """Show that the training is done, with its accuracies."""
        self._ended += 1
        values = [r["value"] for r in rows if r["metric"] == "accuracy"]
        reached = ", ".join(f"{value:.3f}" for value in values)
        number = self._total - self._missing + self._ended
        left = self.time_left(self._ended)
        self._bar.update(self._task, completed=self._ended, left=left)
        line = f"{number}/{self._total}  {seconds:4.0f} s  {label}: {reached}"
        self._say(line + (f"  ({left})" if self._ended < self._missing else ""))

    def time_left(self, done: float) -> str:
        """Estimate the time left from the mean time of a training so far."""
        passed = self._clock() - self._begin
        if done <= 0:
            return ""
        seconds = passed / done * (self._missing - done)
        return f"about {duration_text(seconds)} left"

    def _say(self, line: str) -> None:
        if self._shown:
            self._console.print(line, soft_wrap=True, markup=False)
