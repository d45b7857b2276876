"""Grouping of results.json's rows into cells, as tables and figures show them."""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memzoo.errors import InputError

from ..data import TASKS

ResultRow = Mapping[str, Any]
Setting = tuple[tuple[str, Any], ...]

# Order of a setting's words; those of a task come before them.
_WORDS = {"document": "{}", "length": "{} tokens", "repeat_context": "read {} times"}
# Fields left out of a setting's words, because every table states them once.
_UNSAID = frozenset({"width", "split", "read_before"})

MODEL_FIELDS = ("width", "repeat_context")
"""Fields of a setting that a reading shares with its model's training, besides the axes
of its task."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training of a layer on a setting."""

    learning_rate: float
    seed: int
    value: float
    steps: int | None
    """Optimizer steps to the goal accuracy; None: not reached."""
    trained: int = 0
    """Optimizer steps of the whole training."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """All trainings of a layer on a setting, with the learning rate to show."""

    layer: str
    setting: Setting
    parameters: int
    state_bytes: int
    chance: float | None
    learning_rate: float
    runs: tuple[Run, ...]
    """All trainings, by learning rate and seed."""

    @property
    def best(self) -> tuple[Run, ...]:
        """Return the trainings at the shown learning rate, one per seed."""
        return tuple(r for r in self.runs if r.learning_rate == self.learning_rate)

    @property
    def values(self) -> tuple[float, ...]:
        """Return the value of every seed at the shown learning rate."""
        return tuple(run.value for run in self.best)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def reached(self) -> tuple[int, ...]:
        """Return the steps to the goal accuracy of the seeds that reached it."""
        return tuple(run.steps for run in self.best if run.steps is not None)

    @property
    def text(self) -> str:
        """Return the setting in words, without the width."""
        return setting_text(dict(self.setting))

    def of(self, name: str) -> Any:
        """Return one field of the setting, or None."""
        return dict(self.setting).get(name)


def summarise(rows: Iterable[ResultRow], metric: str = "accuracy") -> list[Cell]:
    """Return one cell for every layer and setting, in the order of their first rows.

    Each cell shows its best learning rate; `at_rates` replaces it.

    Args:
        rows: objects as in results.json, with `learning_rate` and `chance`.
        metric: metric to compare; higher is better.

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
            f"metric is {metric!r}, and no row has it; choose one that was measured"
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
                learning_rate=select_learning_rate(runs),
                runs=runs,
            )
        )
    return cells


def select_learning_rate(runs: Iterable[Run]) -> float:
    """Return the learning rate with the highest mean over seeds.

    Only rates with the most seeds compete, so that one lucky seed of an unfinished
    sweep does not win. Ties go to the rate with fewer steps, then to the smaller rate.
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


def at_rates(
    cells: Iterable[Cell], trained: Iterable[ResultRow], names: Sequence[str]
) -> list[Cell]:
    """Return the cells at the learning rates that were best in training.

    Args:
        cells: cells of readings after training.
        trained: rows measured during training.
        names: fields of a setting that a cell shares with its model's training.
    """
    rates = {
        (cell.layer, cell.setting): cell.learning_rate
        for cell in summarise(averaged(trained, names))
    }
    return [
        dataclasses.replace(cell, learning_rate=rates.get(place, cell.learning_rate))
        for cell in cells
        for place in [(cell.layer, _named(dict(cell.setting), names))]
    ]


def averaged(rows: Iterable[ResultRow], names: Sequence[str]) -> list[ResultRow]:
    """Average each model's rows over all settings that agree in these fields.

    Args:
        rows: objects as in results.json.
        names: fields of a setting; the settings of the means have no others.
    """
    groups: dict[tuple[Any, ...], list[ResultRow]] = {}
    for row in rows:
        setting = _named(row["setting"], names)
        place = row["layer"], row["learning_rate"], row["seed"]
        groups.setdefault((row["metric"], setting, *place), []).append(row)
    return [
        {
            **group[0],
            "setting": dict(setting),
            "value": statistics.fmean(row["value"] for row in group),
        }
        for (_, setting, *_), group in groups.items()
    ]


def _named(setting: Mapping[str, Any], names: Sequence[str]) -> Setting:
    return setting_key({name: setting[name] for name in names if name in setting})


def setting_key(setting: Mapping[str, Any]) -> Setting:
    """Return a setting as a hashable key."""
    return tuple(sorted(setting.items()))


def setting_text(setting: Mapping[str, Any]) -> str:
    """Return a setting in words, without the width."""
    if "context_to" in setting:
        return f"context {setting['context_from']} to {setting['context_to']}"
    words = {
        name: text
        for task in TASKS.values()
        for name, text in getattr(task, "setting_words", {}).items()
    } | _WORDS
    said = [name for name in setting if name not in _UNSAID]
    if said == ["length"]:
        return f"all, {setting['length']} tokens"
    known = [name for name in words if name not in _WORDS]
    ordered = [*known, *(n for n in said if n not in words), *_WORDS]
    return ", ".join(
        words.get(name, f"{name.replace('_', ' ')} {{}}").format(setting[name])
        for name in ordered
        if name in said
    )


def trained_rows(rows: Iterable[ResultRow]) -> list[ResultRow]:
    """Return the rows that were measured during training."""
    return [row for row in rows if not is_later(row)]


def is_later(row: ResultRow) -> bool:
    """Return whether the row was measured by a reading after training."""
    return "split" in row["setting"]


def hardest(cells: Iterable[Cell]) -> list[Cell]:
    """Return the cells of the setting with the lowest chance, then the greatest
    length.
    """
    cells = list(cells)
    top = max(_difficulty(cell) for cell in cells)
    return [cell for cell in cells if _difficulty(cell) == top]


def widest(cells: Iterable[Cell]) -> list[Cell]:
    """Return the cells of the widest model."""
    cells = list(cells)
    top = max(cell.of("width") or 0 for cell in cells)
    return [cell for cell in cells if (cell.of("width") or 0) == top]


def _difficulty(cell: Cell) -> tuple[float, int]:
    # Reading a row again makes it longer, not harder.
    length = 0 if cell.of("repeat_context") else cell.of("length")
    return -(cell.chance or 0), length or 0
