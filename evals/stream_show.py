"""Progress and summary of streaming a document."""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from .number_text import byte_text, duration_text
from .stream import SETTLED, Streamed

_LINE_SECONDS = 10.0


class StreamScreen:
    """Progress on standard error: a bar on a terminal, lines elsewhere.

    Args:
        total: tokens of the document; None: unknown.
        console: where to show it.
        clock: function that returns monotonic seconds.
    """

    def __init__(
        self,
        total: int | None,
        *,
        console: Console | None = None,
        clock=time.monotonic,
    ) -> None:
        own = Console(stderr=True, highlight=False)
        self._console = own if console is None else console
        self._total, self._clock = total, clock
        self._begin = self._last = clock()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("stream", total=total, numbers="")

    def __enter__(self) -> "StreamScreen":
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def at(self, tokens: int) -> None:
        """Show the number of tokens read so far."""
        now = self._clock()
        speed = tokens / max(now - self._begin, 1e-9)
        of = "" if self._total is None else f" of {self._total:,}"
        text = f"{tokens:,}{of} tokens, {speed:,.0f} per second"
        self._bar.update(self._task, completed=tokens, numbers=text)
        if self._console.is_terminal or now - self._last < _LINE_SECONDS:
            return
        self._last = now
        if self._total is not None:
            left = (self._total - tokens) / speed
            text += f", about {duration_text(left)} left"
        self._console.print(text, soft_wrap=True, markup=False)


def summary(streamed: Streamed) -> Sequence[str]:
    """Return sentences on the time and the memory used."""
    lines = [
        f"{streamed.length:,} tokens in {duration_text(streamed.seconds)}: "
        f"{streamed.tokens_per_second:,.0f} tokens per second after compilation"
    ]
    if streamed.resident:
        held = ", ".join(
            f"{byte_text(size)} after {tokens:,}"
            for tokens, size in _few(list(streamed.resident.items()))
        )
        lines.append(f"resident memory by tokens read: {held}")
    else:
        lines.append("resident memory: not reported by this system")
    return lines


def _few(marks: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the first mark, the first settled one, and the last."""
    settled = [mark for mark in marks if mark[0] >= SETTLED][:1]
    return list(dict.fromkeys([marks[0], *settled, marks[-1]]))
