"""Rows of results.json -> what a table or a figure shows."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from memzoo.errors import InputError

ResultRow = Mapping[str, Any]
Setting = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training of a layer on a setting."""

    learning_rate: float
    seed: int
    value: float
    steps: int | None
    """Optimizer steps until the accuracy aimed at; None: not reached."""
    trained: int = 0
    """Optimizer steps of the whole training."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """All trainings of a layer on a setting, and which learning rate did best."""

    layer: str
    setting: Setting
    parameters: int
    state_bytes: int
    chance: float | None
    learning_rate: float
    """The one with the best mean over seeds, among those with the most seeds."""
    runs: tuple[Run, ...]
    """Every training, by learning rate and seed."""

    @property
    def best(self) -> tuple[Run, ...]:
        """The trainings at the best learning rate, one a seed."""
        return tuple(r for r in self.runs if r.learning_rate == self.learning_rate)

    @property
    def values(self) -> tuple[float, ...]:
        """The measure of every seed at the best learning rate."""
        return tuple(run.value for run in self.best)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def reached(self) -> tuple[int, ...]:
        """Steps to the accuracy aimed at, of the seeds that reached it."""
        return tuple(run.steps for run in self.best if run.steps is not None)

    @property
    def text(self) -> str:
        """The setting in words, its width left out."""
        return setting_text(dict(self.setting))

    def of(self, name: str) -> Any:
        """One field of the setting, or None."""
        return dict(self.setting).get(name)


def summarise(rows: Iterable[ResultRow], metric: str = "accuracy") -> list[Cell]:
    """One cell for every layer and setting, in the order of their first rows.

    Args:
        rows: objects as in results.json, with `learning_rate` and `chance`.
        metric: the measure that is compared; higher is better.

    Raises:
        InputError: no row has this metric.
    """
    groups: dict[tuple[str, Setting], list[ResultRow]] = {}
    steps: dict[tuple[Any, ...], int] = {}
    for row in rows:
        place = (row["layer"], setting_key(row["setting"]))
        if row["metric"] == metric:
            groups.setdefault(place, []).append(row)
        elif row["metric"].startswith("steps_to_"):
            steps[*place, row["learning_rate"], row["seed"]] = int(row["value"])
    if not groups:
        raise InputError(
            f"no row has the metric {metric!r}; choose one that was measured"
        )
    cells = []
    for (layer, setting), group in groups.items():
        runs = tuple(
            Run(
                learning_rate=rate,
                seed=seed,
                value=row["value"],
                steps=steps.get((layer, setting, rate, seed)),
                trained=row["checkpoint_step"],
            )
            for rate, seed, row in sorted(
                ((row["learning_rate"], row["seed"], row) for row in group),
                key=lambda item: item[:2],
            )
        )
        cells.append(
            Cell(
                layer=layer,
                setting=setting,
                parameters=group[0]["parameters"],
                state_bytes=group[0]["state_bytes"],
                chance=group[0].get("chance"),
                learning_rate=best_learning_rate(runs),
                runs=runs,
            )
        )
    return cells


def best_learning_rate(runs: Iterable[Run]) -> float:
    """The learning rate with the highest mean over seeds.

    Only those with as many seeds as any are compared, so that one lucky seed of an
    unfinished sweep does not win. Equal means: the one that took fewer steps, then the
    smaller one.
    """
    by_rate: dict[float, list[Run]] = {}
    for run in runs:
        by_rate.setdefault(run.learning_rate, []).append(run)
    most = max(len(group) for group in by_rate.values())

    def rank(rate: float) -> tuple[float, float, float]:
        group = by_rate[rate]
        steps = [float("inf") if run.steps is None else run.steps for run in group]
        mean = statistics.fmean(run.value for run in group)
        return -mean, sum(steps), rate

    return min(
        (rate for rate, group in by_rate.items() if len(group) == most), key=rank
    )


def setting_key(setting: Mapping[str, Any]) -> Setting:
    """A setting as something that can be compared and looked up."""
    return tuple(sorted(setting.items()))


def setting_text(setting: Mapping[str, Any]) -> str:
    """A setting in words, its width left out."""
    if "context_to" in setting:
        return f"context {setting['context_from']} to {setting['context_to']}"
    length = f"{setting['length']} tokens"
    if "document" in setting:
        return f"{setting['document']}, {length}"
    if "repeat_context" in setting:
        length += f", read {setting['repeat_context']} times"
    if "num_pairs" in setting:
        asked = setting.get("num_queries")
        pairs = f"{setting['num_pairs']} pairs"
        return f"{pairs}{f', {asked} asked' if asked else ''}, {length}"
    if "depth" in setting:
        return f"depth {setting['depth']:g}, {length}"
    if "first" in setting:
        return f"a set of {setting['first']}, then of {setting['second']}, {length}"
    return f"all, {length}"


def hardest(cells: Iterable[Cell]) -> list[Cell]:
    """The cells of the setting with the most pairs, then the longest."""
    cells = list(cells)
    top = max(_difficulty(cell) for cell in cells)
    return [cell for cell in cells if _difficulty(cell) == top]


def widest(cells: Iterable[Cell]) -> list[Cell]:
    """The cells of the widest model."""
    cells = list(cells)
    top = max(cell.of("width") or 0 for cell in cells)
    return [cell for cell in cells if (cell.of("width") or 0) == top]


def _difficulty(cell: Cell) -> tuple[int, int]:
    # What is read again is longer, not harder.
    length = 0 if cell.of("repeat_context") else cell.of("length")
    return cell.of("num_pairs") or 0, length or 0
