"""What reading twice gains: accuracy by how often a sequence was read."""

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from . import figures
from .figures import byte_text
from .page import Section, table
from .report import legend, name_cell, range_text, series_numbers
from .summary import Cell, ResultRow, summarise

AnyRow = TypeVar("AnyRow", bound=ResultRow)

_LEAD = (
    "Accuracy of each layer by how often a sequence was read before it was answered, "
    "each at its own best learning rate; the gain is the difference of the means. A "
    "model that was trained on reading once is the same one however often it reads."
)


@dataclass(frozen=True, kw_only=True)
class Gain:
    """A layer on a number of pairs, read once and more often."""

    layer: str
    width: int
    num_pairs: int
    once: Cell
    more: Cell
    times: int
    """Readings of `more`."""

    @property
    def gain(self) -> float:
        """Mean accuracy read `times` times, minus that read once."""
        return self.more.mean - self.once.mean

    @property
    def title(self) -> str:
        """What the gains of a table have in common, in words."""
        chance, asked = self.once.chance, self.once.of("num_queries")
        again = "trained on reading once, " if self.once.of("split") else ""
        return (
            f"{again}read {self.times} times, {self.num_pairs} pairs, "
            f"{f'{asked} asked, ' if asked else ''}width {self.width}"
            f"{'' if chance is None else f', chance {chance:.3f}'}"
        )


def gains(rows: Sequence[ResultRow]) -> list[Gain]:
    """Every layer that was read once and more often on the same pairs.

    What was trained on reading so often, and what was only read so after training, are
    compared apart.

    Args:
        rows: as in results.json.
    """
    places: dict[tuple[str, int, int, bool], dict[int, Cell]] = {}
    for cell in summarise(rows):
        if cell.of("num_pairs") is not None:
            after = cell.of("split") is not None
            place = cell.layer, cell.of("width"), cell.of("num_pairs"), after
            places.setdefault(place, {})[cell.of("repeat_context") or 1] = cell
    for (layer, width, pairs, after), cells in places.items():
        trained = places.get((layer, width, pairs, False), {}).get(1)
        if after and trained is not None:
            # The model that training chose, however often it reads.
            rate = trained.learning_rate
            cells |= {n: replace(c, learning_rate=rate) for n, c in cells.items()}
    return [
        Gain(
            layer=layer,
            width=width,
            num_pairs=pairs,
            once=cells[1],
            more=cells[times],
            times=times,
        )
        for (layer, width, pairs, _), cells in places.items()
        for times in sorted(cells)
        if times > 1 and 1 in cells
    ]


def rows_of_training(rows: Sequence[AnyRow]) -> list[AnyRow]:
    """Those that were measured while a model was trained, not of what it read later."""
    return [row for row in rows if "split" not in row["setting"]]


def by_title(found: Sequence[Gain]) -> dict[str, list[Gain]]:
    """The gains of every table, by its title."""
    tables: dict[str, list[Gain]] = {}
    for gain in found:
        tables.setdefault(gain.title, []).append(gain)
    return tables


def gain_sections(rows: Sequence[ResultRow]) -> list[Section]:
    """The tables of a page; none where nothing was read more than once."""
    found = gains(rows)
    if not found:
        return []
    numbers = series_numbers([gain.once for gain in found])
    parts = [legend(numbers)]
    for title, group in by_title(found).items():
        times = group[0].times
        head = (
            "layer",
            "state",
            "read once",
            "lowest to highest",
            "seeds, 0 to 1",
            f"read {times} times",
            "lowest to highest",
            "seeds, 0 to 1",
            "gain",
        )
        lines = [
            (
                name_cell(gain.layer, numbers[gain.layer]),
                byte_text(gain.once.state_bytes),
                *_numbers(gain.once, numbers[gain.layer]),
                *_numbers(gain.more, numbers[gain.layer]),
                f"{gain.gain:+.3f}",
            )
            for gain in group
        ]
        parts += [f"<h3>{html.escape(title)}</h3>", table(head, lines)]
    return [Section(title="Read twice", lead=_LEAD, body="".join(parts))]


def _numbers(cell: Cell, number: int) -> tuple[str, str, str]:
    strip = figures.seed_strip(cell.values, cell.chance, number)
    return f"{cell.mean:.3f}", range_text(cell), strip
