"""The sections of a page about needles: accuracy by length and by depth."""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import figures
from .figures import Curve, byte_text, length_text
from .page import Section, figure, grid, notes, table
from .report import (
    CurveKey,
    curve_sections,
    legend,
    name_cell,
    percent_text,
    series_numbers,
    steps_text,
)
from .summary import Cell, ResultRow, Setting, setting_key, summarise, widest

_NOTES = (
    "niah-tok: RULER's passkey (arXiv 2404.06654) in token form, small enough to train "
    "from nothing. Compare layers on this page with each other, not with RULER or with "
    "numbers from papers.",
    "Every layer stands in the same model: same width and depth, the same short "
    "convolution on queries, keys and values, no MLP. It is trained at one length, "
    "with the needle anywhere, and read at every length without further training.",
    "Accuracy is the share of the value's tokens that are right, each after the true "
    "ones before it. The whole value is right where all of them are, which is what "
    "greedy decoding would put out.",
    "A layer's learning rate is the one that did best at the trained length, on other "
    "rows (validation) than those shown (test). Training ends early at the goal.",
    "Chance is naming any value token.",
    "State is counted from the arrays that are carried from token to token, for one "
    "sequence and the whole model. That of attention grows with the length.",
)


def by_length(rows: Sequence[ResultRow], metric: str = "accuracy") -> list[Cell]:
    """One cell for every layer and length: the mean over depths, a value a seed.

    The learning rate is the best one at the trained length.
    """
    rates = _rates(rows)
    groups: dict[tuple[Any, ...], list[ResultRow]] = {}
    for row in rows:
        if row["metric"] == metric and "depth" in row["setting"]:
            setting = _without_depth(row["setting"])
            key = row["layer"], setting, row["learning_rate"], row["seed"]
            groups.setdefault(key, []).append(row)
    means = [
        {
            **group[0],
            "setting": dict(setting),
            "value": statistics.fmean(row["value"] for row in group),
        }
        for (_, setting, _, _), group in groups.items()
    ]
    cells = summarise(means, metric)
    return [
        dataclasses.replace(cell, learning_rate=rates[cell.layer, cell.of("width")])
        for cell in cells
    ]


def needle_finding(rows: Sequence[ResultRow], trained: int) -> str:
    """Accuracy at the trained and at the longest length, in a sentence."""
    cells = widest(by_length(rows))
    longest = max(cell.of("length") for cell in cells)
    parts = []
    for length in dict.fromkeys((trained, longest)):
        there = [cell for cell in cells if cell.of("length") == length]
        there.sort(key=lambda cell: -cell.mean)
        said = ", ".join(f"{c.layer} {percent_text(c.mean)}" for c in there)
        if said:
            parts.append(f"in {length:,} tokens {said}")
    return (
        f"Trained on needles in {trained:,} tokens, share of value tokens found: "
        f"{'; '.join(parts)} (chance: {percent_text(cells[0].chance or 0.0)})."
    )


def needle_sections(
    rows: Sequence[ResultRow],
    curves: Mapping[CurveKey, Sequence[Curve]],
    *,
    trained: int,
    steps: int,
    goal: float,
) -> list[Section]:
    """The figures, the table and the remarks of a comparison on the needle.

    Args:
        rows: as in results.json: with a depth those read after training, without one
            the evaluation that the learning rate was chosen by.
        curves: the course of every training, by layer and setting.
        trained: tokens in a row that was trained on.
        steps: most steps of a training.
        goal: accuracy at which a training ends.
    """
    cells = widest(by_length(rows))
    numbers = series_numbers(cells)
    chosen = widest(trained_cells(rows))
    return [
        Section(
            title="Accuracy by length",
            lead="Each layer at its best learning rate: lines are means over seeds and "
            "depths, small dots are single seeds.",
            body=legend(numbers) + grid(_length_figures(rows, numbers, trained)),
        ),
        Section(
            title="Accuracy by depth",
            lead="Percent of value tokens right, by how much of the noise stands "
            "before the needle.",
            body=grid(_depth_figures(rows, numbers), "small"),
        ),
        Section(
            title="Every number",
            lead="Share of value tokens right, mean over seeds and depths.",
            body=_table(cells, chosen, numbers, trained, goal),
        ),
        *curve_sections(chosen, curves, numbers, steps),
        Section(title="How to read this", body=notes(_NOTES)),
    ]


def trained_cells(rows: Iterable[ResultRow]) -> list[Cell]:
    """The cells of the trained length, as evaluated while training."""
    return summarise([row for row in rows if "depth" not in row["setting"]])


def _rates(rows: Sequence[ResultRow]) -> dict[tuple[str, Any], float]:
    """The best learning rate of every layer and width."""
    cells = trained_cells(rows)
    return {(cell.layer, cell.of("width")): cell.learning_rate for cell in cells}


def _length_figures(
    rows: Sequence[ResultRow], numbers: Mapping[str, int], trained: int
) -> list[str]:
    cells = widest(by_length(rows))
    whole = widest(by_length(rows, "sequence_accuracy"))
    return [
        figure(
            figures.accuracy_by_length(
                cells,
                numbers,
                trained,
                name="length",
                label="share of value tokens right",
            ),
            "How far does it remember?",
            "Accuracy against the length that is read.",
        ),
        figure(
            figures.accuracy_by_length(
                [dataclasses.replace(cell, chance=None) for cell in whole],
                numbers,
                trained,
                name="whole",
                label="share of whole values right",
            ),
            "Is the whole value right?",
            "Share of sequences with every token of the value right.",
        ),
    ]


def _depth_figures(rows: Sequence[ResultRow], numbers: Mapping[str, int]) -> list[str]:
    rates = _rates(rows)
    width = max(row["setting"]["width"] for row in rows)
    found: dict[str, dict[tuple[int, float], list[float]]] = {}
    for row in rows:
        setting = row["setting"]
        if row["metric"] != "accuracy" or "depth" not in setting:
            continue
        rate = rates[row["layer"], setting["width"]]
        if (setting["width"], row["learning_rate"]) == (width, rate):
            place = setting["length"], setting["depth"]
            own = found.setdefault(row["layer"], {})
            own.setdefault(place, []).append(row["value"])
    return [
        figure(
            figures.depth_map(
                {place: statistics.fmean(each) for place, each in values.items()},
                layer,
                numbers[layer],
            ),
            layer,
            f"best learning rate {rates[layer, width]:g}",
        )
        for layer, values in found.items()
    ]


def _table(
    cells: Sequence[Cell],
    chosen: Sequence[Cell],
    numbers: Mapping[str, int],
    trained: int,
    goal: float,
) -> str:
    lengths = sorted({cell.of("length") for cell in cells})
    values = {(cell.layer, cell.of("length")): cell for cell in cells}
    head = (
        "layer",
        "parameters",
        f"state at {length_text(trained)}",
        f"state at {length_text(lengths[-1])}",
        "best learning rate",
        f"seeds at {goal:g}",
        f"steps to {goal:g}",
        *(length_text(length) for length in lengths),
    )
    lines = [
        (
            name_cell(cell.layer, numbers[cell.layer]),
            f"{cell.parameters:,}",
            byte_text(cell.state_bytes),
            byte_text(values[cell.layer, lengths[-1]].state_bytes),
            f"{cell.learning_rate:g}",
            f"{len(cell.reached)} of {len(cell.best)}",
            steps_text(cell),
            *(f"{values[cell.layer, length].mean:.3f}" for length in lengths),
        )
        for cell in chosen
    ]
    return table(head, lines)


def _without_depth(setting: Mapping[str, Any]) -> Setting:
    return setting_key({k: v for k, v in setting.items() if k != "depth"})
