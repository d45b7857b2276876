"""What a person sees of a sweep: its progress, and the table at its end."""

import json
import time
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from .figures import byte_text, duration_text, length_text
from .needle_report import by_length
from .orders import orders
from .readings import by_title, gains
from .report import range_text, steps_text
from .results import ResultRow
from .summary import Cell, summarise


def say(line: str) -> None:
    """Print one line on standard error, whether progress is shown or not."""
    console = Console(stderr=True, highlight=False)
    console.print(f"memzoo: {line}", soft_wrap=True, markup=False)


class Announcer:
    """Progress of a sweep on standard error: a bar on a terminal, lines elsewhere.

    Args:
        total: trainings of the sweep.
        missing: those that are not done yet.
        steps: most optimizer steps of a training.
        shown: false shows nothing.
        clock: seconds that go on.
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
        """A training begins."""
        number = self._total - self._missing + self._ended + 1
        self._bar.update(
            self._task, description=f"{number}/{self._total} {label}", left="compiling"
        )

    def step(self, line: dict[str, Any]) -> None:
        """The training is at this line of metrics.jsonl."""
        done = self._ended + line["step"] / self._steps
        self._bar.update(self._task, completed=done, left=self.time_left(done))

    def end(self, label: str, rows: Sequence[ResultRow], seconds: float) -> None:
        """The training is done, with these results."""
        self._ended += 1
        values = [r["value"] for r in rows if r["metric"] == "accuracy"]
        reached = ", ".join(f"{value:.3f}" for value in values)
        number = self._total - self._missing + self._ended
        left = self.time_left(self._ended)
        self._bar.update(self._task, completed=self._ended, left=left)
        line = f"{number}/{self._total}  {seconds:4.0f} s  {label}: {reached}"
        self._say(line + (f"  ({left})" if self._ended < self._missing else ""))

    def time_left(self, done: float) -> str:
        """Time to the end, if the other trainings take as long as those so far."""
        passed = self._clock() - self._begin
        if done <= 0:
            return ""
        seconds = passed / done * (self._missing - done)
        return f"about {duration_text(seconds)} left"

    def _say(self, line: str) -> None:
        if self._shown:
            self._console.print(line, soft_wrap=True, markup=False)


def print_summary(
    rows: Sequence[ResultRow],
    *,
    goal: float,
    console: Console | None = None,
) -> None:
    """The comparison as tables of at most 80 columns, one for every setting."""
    console = Console() if console is None else console
    cells = summarise(rows)
    for setting in dict.fromkeys(cell.setting for cell in cells):
        group = [cell for cell in cells if cell.setting == setting]
        console.print(_summary_table(group, goal), "")


def print_lengths(rows: Sequence[ResultRow], console: Console | None = None) -> None:
    """Accuracy at every length as a table, one for every width."""
    console = Console() if console is None else console
    cells = by_length(rows)
    lengths = sorted({cell.of("length") for cell in cells})
    for width in dict.fromkeys(cell.of("width") for cell in cells):
        title = f"share of value tokens right, by tokens read, width {width}"
        console.print(title, style="bold", soft_wrap=True)
        table = Table(box=SIMPLE_HEAD, padding=0, show_edge=False)
        table.add_column("layer", overflow="fold")
        for name in ("rate", *map(length_text, lengths)):
            table.add_column(name, justify="right", no_wrap=True)
        group = [cell for cell in cells if cell.of("width") == width]
        for layer in dict.fromkeys(cell.layer for cell in group):
            own = {cell.of("length"): cell for cell in group if cell.layer == layer}
            rate = next(iter(own.values())).learning_rate
            values = [f"{own[n].mean:.3f}" if n in own else "-" for n in lengths]
            table.add_row(layer, f"{rate:g}", *values)
        console.print(table, "")


def print_gains(rows: Sequence[ResultRow], console: Console | None = None) -> None:
    """What reading more than once gains, a table for every setting; or nothing."""
    console = Console() if console is None else console
    for title, group in by_title(gains(rows)).items():
        times = group[0].times
        table = _table(
            title,
            ("layer",),
            (
                "state",
                "read\nonce",
                "range",
                f"read\n{times} times",
                "range",
                "gain",
            ),
        )
        for gain in group:
            table.add_row(
                gain.layer,
                byte_text(gain.once.state_bytes),
                f"{gain.once.mean:.3f}",
                _shortened(range_text(gain.once)),
                f"{gain.more.mean:.3f}",
                _shortened(range_text(gain.more)),
                f"{gain.gain:+.3f}",
            )
        console.print(table, "")


def print_orders(rows: Sequence[ResultRow], console: Console | None = None) -> None:
    """Accuracy on two sets in both orders, a table for every width."""
    console = Console() if console is None else console
    found = orders(rows)
    for width in dict.fromkeys(o.width for o in found):
        table = _table(
            f"share of rows answered right, by the set read first, width {width}",
            ("layer", "read"),
            ("sets", "chance", "state", "small\nfirst", "large\nfirst", "difference"),
        )
        for o in found:
            if o.width != width:
                continue
            means = [
                "-" if cell is None else f"{cell.mean:.3f}"
                for cell in (o.small_first, o.large_first)
            ]
            table.add_row(
                o.layer,
                "once" if o.times == 1 else f"{o.times} x",
                f"{o.small} {o.large}",
                f"{1 / o.small:.2f}",
                byte_text(o.either.state_bytes),
                *means,
                "-" if o.difference is None else f"{o.difference:+.3f}",
            )
        console.print(table, "")


def print_rows(rows: Sequence[ResultRow]) -> None:
    """The rows as JSON."""
    print(json.dumps(rows, indent=2))


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    """An empty table with words in the left columns and numbers in the others."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        padding=0,
        show_edge=False,
    )
    for name in left:
        # What may be folded is made narrower first: numbers are never cut.
        table.add_column(name, overflow="fold")
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _summary_table(cells: Sequence[Cell], goal: float) -> Table:
    first = cells[0]
    chance = "" if first.chance is None else f", chance {first.chance:.3f}"
    width = f", width {first.of('width')}" if first.of("width") is not None else ""
    numbers = ("params", "state", "best\nrate", "seeds", "mean", "range")
    table = _table(
        first.text + width + chance, ("layer",), (*numbers, f"steps to\n{goal:g}")
    )
    for cell in cells:
        table.add_row(
            cell.layer,
            _count_text(cell.parameters),
            byte_text(cell.state_bytes),
            f"{cell.learning_rate:g}",
            str(len(cell.best)),
            f"{cell.mean:.3f}",
            _shortened(range_text(cell)),
            _shortened(steps_text(cell)),
        )
    return table


def _count_text(count: int) -> str:
    return f"{count:,}" if count < 1_000_000 else f"{count / 1_000_000:.4g}M"


def _shortened(text: str) -> str:
    return text.replace(" to ", "-").replace("> ", ">").replace(",", "")
