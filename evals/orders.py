"""Set disjointness: does it matter which of two sets is read first?"""

import html
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .figures import Curve, byte_text
from .page import Section, notes, table
from .report import (
    CurveKey,
    curve_sections,
    legend,
    name_cell,
    percent_text,
    range_text,
    series_numbers,
)
from .summary import Cell, ResultRow, summarise, widest

_NOTES = (
    "Two sets share one token, which is to be named: the task by which arXiv "
    "2407.05483 shows that a memory of constant size depends on the order of what it "
    "reads. Read once and causally it must hold the first set, however large; read "
    "twice, or non-causally, the smaller one is enough.",
    "Rows of a layer and of its variant -causal have the same parameters and the same "
    "state: the first reads the sets non-causally, the second as they come.",
    "Accuracy is the share of rows answered right, on rows (test) of which none was "
    "trained on and by none of which anything was chosen. The learning rate is the "
    "one that did best on the trained sizes, on other rows (validation).",
    "Chance is naming any token of the smaller set.",
    "State is counted from the arrays that are carried from token to token, for one "
    "sequence and the whole model. That of attention grows with the length.",
)
_Reader = tuple[str, int, Any]


@dataclass(frozen=True, kw_only=True)
class Orders:
    """A layer on two sets, in both orders."""

    layer: str
    width: Any
    times: int
    """Readings before the answer."""
    small: int
    large: int
    small_first: Cell | None
    large_first: Cell | None

    @property
    def difference(self) -> float | None:
        """Mean accuracy with the small set first, minus that with the large one."""
        if self.small_first is None or self.large_first is None:
            return None
        return self.small_first.mean - self.large_first.mean

    @property
    def either(self) -> Cell:
        """The cell of an order that was read."""
        cell = self.small_first or self.large_first
        assert cell is not None
        return cell

    @property
    def name(self) -> str:
        """The layer, and how often it reads."""
        return self.layer if self.times == 1 else f"{self.layer}, {self.times} times"


def orders(rows: Sequence[ResultRow]) -> list[Orders]:
    """Every layer on every pair of sizes that was read after training.

    Args:
        rows: as in results.json: with a split those read after training, without one
            the evaluations that the learning rate was chosen by.
    """
    rates = _rates(rows)
    places: dict[tuple[_Reader, int, int], dict[str, Cell]] = {}
    for cell in summarise([row for row in rows if "split" in row["setting"]]):
        reader = _reader(cell.layer, dict(cell.setting))
        cell = replace(cell, learning_rate=rates[reader])
        first, second = cell.of("first"), cell.of("second")
        place = reader, min(first, second), max(first, second)
        order = "small_first" if first <= second else "large_first"
        places.setdefault(place, {})[order] = cell
    return [
        Orders(
            layer=layer,
            times=times,
            width=width,
            small=small,
            large=large,
            small_first=found.get("small_first"),
            large_first=found.get("large_first"),
        )
        for ((layer, times, width), small, large), found in places.items()
    ]


def orders_finding(rows: Sequence[ResultRow]) -> str:
    """The result at the most unequal sets that were read in both orders."""
    both = [o for o in orders(rows) if o.difference is not None]
    if not both:
        return "No sets were read in both orders."
    top = max((o.large / o.small, o.large, o.width or 0) for o in both)
    hardest = [o for o in both if (o.large / o.small, o.large, o.width or 0) == top]
    said = "; ".join(
        f"{o.name} {percent_text(o.small_first.mean)} and "
        f"{percent_text(o.large_first.mean)}"
        for o in hardest
        if o.small_first is not None and o.large_first is not None
    )
    small, large = hardest[0].small, hardest[0].large
    return (
        f"Sets of {small} and {large} tokens, the small one first and the large one "
        f"first: {said} (chance: {percent_text(1 / small)})."
    )


def orders_sections(
    rows: Sequence[ResultRow],
    curves: Mapping[CurveKey, Sequence[Curve]],
    *,
    trained: Sequence[tuple[int, int]],
    steps: int,
) -> list[Section]:
    """The table and the remarks of a comparison on set disjointness.

    Args:
        rows: as in results.json.
        curves: the course of every training, by layer and setting.
        trained: sizes in the rows that were trained on.
        steps: most steps of a training.
    """
    found = orders(rows)
    numbers = series_numbers([o.either for o in found])
    kept = [row for row in rows if "split" not in row["setting"]]
    longest = max(row["setting"]["length"] for row in kept)
    largest = [row for row in kept if row["setting"]["length"] == longest]
    chosen = widest(summarise(largest)) if largest else []
    return [
        Section(
            title="Both orders",
            lead="Share of rows answered right, each layer at its best learning rate; "
            "the difference is small first minus large first, of the means.",
            body=legend(numbers) + _tables(found, numbers, set(trained)),
        ),
        *curve_sections(chosen, curves, numbers, steps),
        Section(title="How to read this", body=notes(_NOTES)),
    ]


def _tables(
    found: Sequence[Orders], numbers: Mapping[str, int], trained: set[tuple[int, int]]
) -> str:
    """One table for every pair of sizes."""
    head = (
        "layer",
        "read",
        "width",
        "state",
        "small first",
        "lowest to highest",
        "large first",
        "lowest to highest",
        "difference",
    )
    parts = []
    for small, large in dict.fromkeys((o.small, o.large) for o in found):
        group = [o for o in found if (o.small, o.large) == (small, large)]
        seen = trained & {(small, large), (large, small)}
        title = f"Sets of {small} and {large}{'' if seen else ', not trained on'}"
        parts.append(f"<h3>{html.escape(title)}, chance {1 / small:.3f}</h3>")
        lines = [
            (
                name_cell(o.layer, numbers[o.layer]),
                "once" if o.times == 1 else f"{o.times} times",
                f"{o.width}",
                byte_text(o.either.state_bytes),
                *_numbers(o.small_first),
                *_numbers(o.large_first),
                "" if o.difference is None else f"{o.difference:+.3f}",
            )
            for o in group
        ]
        parts.append(table(head, lines))
    return "".join(parts)


def _numbers(cell: Cell | None) -> tuple[str, str]:
    return ("", "") if cell is None else (f"{cell.mean:.3f}", range_text(cell))


def _reader(layer: str, setting: Mapping[str, Any]) -> _Reader:
    return layer, setting.get("repeat_context", 1), setting.get("width")


def _rates(rows: Sequence[ResultRow]) -> dict[_Reader, float]:
    """The learning rate with the best mean over trained sizes and seeds."""
    groups: dict[tuple[_Reader, float, int], list[ResultRow]] = {}
    for row in rows:
        if row["metric"] == "accuracy" and "split" not in row["setting"]:
            reader = _reader(row["layer"], row["setting"])
            key = reader, row["learning_rate"], row["seed"]
            groups.setdefault(key, []).append(row)
    means = [
        {
            **group[0],
            "setting": {"repeat_context": times, "width": width},
            "value": statistics.fmean(row["value"] for row in group),
        }
        for ((_, times, width), _, _), group in groups.items()
    ]
    return {
        _reader(cell.layer, dict(cell.setting)): cell.learning_rate
        for cell in summarise(means)
    }
