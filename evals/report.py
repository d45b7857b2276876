"""Sections that every comparison page has, including how the page was made."""

import html
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from . import figures
from .figures import Curve
from .number_text import byte_text
from .page import Section, figure, grid, notes
from .summary import Cell, Setting, setting_key, widest
from .table import LAYER, Both, Name, Strip, Table, column, swatch

CurveKey = tuple[str, Setting]


def series_numbers(cells: Sequence[Cell]) -> dict[str, int]:
    """Return a series number for every layer, in order."""
    layers = dict.fromkeys(cell.layer for cell in cells)
    return {layer: i for i, layer in enumerate(layers)}


def curve_key(layer: str, setting: Mapping[str, Any]) -> CurveKey:
    """Return the key of the curves of a layer on a setting."""
    return layer, setting_key(setting)


def legend(numbers: Mapping[str, int]) -> str:
    """Return a legend of all series as HTML."""
    items = [
        f"<li>{swatch(number)}{html.escape(layer)}</li>"
        for layer, number in numbers.items()
    ]
    return f'<ul class="legend">{"".join(items)}</ul>'


def accuracy_lead(cells: Sequence[Cell]) -> str:
    """Return an explanation of the lines in the figures."""
    if all(len(cell.runs) == 1 for cell in cells):
        return "One seed and one learning rate: a first look, not a comparison."
    return (
        "Each layer at its best learning rate. Lines are means over seeds; small dots "
        "are single seeds."
    )


def accuracy_tables(
    cells: Sequence[Cell], numbers: Mapping[str, int], goal: float | None = None
) -> list[Table]:
    """Return one table for every setting, the last setting first.

    Args:
        cells: cells of all settings.
        numbers: series number of every layer.
        goal: accuracy at which a training ended; None: the cells are readings after
            training, which have no goal.
    """
    heads = [
        LAYER,
        column("parameters", "params"),
        column("state"),
        column("best learning rate", "best\nrate"),
        column(f"seeds at {goal:g}", f"seeds\nat {goal:g}") if goal else None,
        column("mean accuracy", "mean"),
        column("lowest to highest", "range"),
        column("seeds, 0 to 1", None),
        column(f"steps to {goal:g}", f"steps to\n{goal:g}") if goal else None,
    ]
    kept = [number for number, head in enumerate(heads) if head is not None]
    columns = [head for head in heads if head is not None]
    tables = []
    for setting in reversed(dict.fromkeys(cell.setting for cell in cells)):
        group = [cell for cell in cells if cell.setting == setting]
        full = [
            (
                Name(cell.layer, numbers[cell.layer]),
                count_cell(cell.parameters),
                byte_text(cell.state_bytes),
                f"{cell.learning_rate:g}",
                f"{len(cell.reached)} of {len(cell.best)}",
                f"{cell.mean:.3f}",
                range_cell(cell),
                Strip(cell.values, cell.chance, numbers[cell.layer]),
                steps_cell(cell),
            )
            for cell in group
        ]
        rows = [[row[number] for number in kept] for row in full]
        tables.append(Table(title=cell_title(group[0]), columns=columns, rows=rows))
    return tables


def cell_title(cell: Cell) -> str:
    """Return a cell's setting, its width and its chance in words."""
    width = cell.of("width")
    chance = "" if cell.chance is None else f", chance {cell.chance:.3f}"
    return f"{cell.text}{'' if width is None else f', width {width}'}{chance}"


def accuracy_figures(
    cells: Sequence[Cell], top: Sequence[Cell], numbers: Mapping[str, int]
) -> list[str]:
    """Return figures of accuracy against state and learning rate at one setting.

    Args:
        cells: cells of all settings.
        top: cells of the setting to draw.
        numbers: series number of every layer.
    """
    where = top[0].text
    parts = [
        figure(
            figures.accuracy_by_state(top, numbers),
            "What does it cost?",
            f"Accuracy against bytes of state, {where}. Up and left is better.",
        )
    ]
    if len({run.learning_rate for cell in cells for run in cell.runs}) > 2:
        parts.append(
            figure(
                figures.accuracy_by_learning_rate(widest(top), numbers),
                "How much does the learning rate matter?",
                f"Accuracy against the peak learning rate, {where}.",
            )
        )
    return parts


def curve_sections(
    top: Sequence[Cell],
    curves: Mapping[CurveKey, Sequence[Curve]],
    numbers: Mapping[str, int],
    steps: int,
) -> list[Section]:
    """Return the learning curves, one figure per layer; no section without curves.

    Args:
        top: cells whose trainings are drawn.
        curves: learning curves of all trainings, by layer and setting.
        numbers: series number of every layer.
        steps: most steps of a training.
    """
    cells = widest(top)
    several = len({cell.setting for cell in cells}) > 1
    parts = []
    for cell in cells:
        own = curves.get((cell.layer, cell.setting), ())
        if not own:
            continue
        last = max([steps, *(curve.steps[-1] for curve in own if curve.steps)])
        parts.append(
            figure(
                figures.learning_curves(cell, own, numbers[cell.layer], last),
                cell.layer,
                (f"{cell.text}; " if several else "")
                + f"best learning rate {cell.learning_rate:g}",
            )
        )
    if not parts:
        return []
    lead = "" if several else f"{top[0].text.removeprefix('all, ')}. "
    lead += (
        "Colour: the best learning rate, with the best seed thick and the others thin. "
        "Grey: the other learning rates. Dotted: chance. A line that ends early "
        "reached the goal."
    )
    return [Section(title="Learning curves", lead=lead, parts=[grid(parts, "small")])]


def made_section(
    command: str, versions: Mapping[str, str], details: Sequence[str] = ()
) -> Section:
    """Return how the page was made, so that readers can reproduce it."""
    listed = ", ".join(f"{name} {number}" for name, number in versions.items())
    return Section(
        title="How this was made",
        parts=[f"<pre>{html.escape(command)}</pre>", notes([listed, *details])],
    )


def versions() -> dict[str, str]:
    """Return the versions of the packages that the numbers depend on."""
    numbers = {name: version(name) for name in ("memzoo", "jax", "flax", "optax")}
    return {"python": platform.python_version(), **numbers}


def count_cell(count: int) -> Both:
    """Return a number of parameters; a terminal shows millions."""
    short = f"{count:,}" if count < 1_000_000 else f"{count / 1_000_000:.4g}M"
    return Both(f"{count:,}", short)


def steps_cell(cell: Cell) -> Both:
    """Return the steps to the goal: a number, a range, or `> steps` if a seed missed
    it."""
    missed = [run.trained for run in cell.best if run.steps is None]
    least = f"> {max(missed):,}" if missed else ""
    if not cell.reached:
        return _shortened(least)
    low, high = min(cell.reached), max(cell.reached)
    if missed:
        return _shortened(f"{low:,} to {least}")
    return _shortened(f"{low:,}" if low == high else f"{low:,} to {high:,}")


def range_cell(cell: Cell) -> Both:
    """Return the range from the lowest to the highest seed."""
    if len(cell.values) == 1:
        return Both("one seed", "one seed")
    return _shortened(f"{min(cell.values):.3f} to {max(cell.values):.3f}")


def _shortened(text: str) -> Both:
    short = text.replace(" to ", "-").replace("> ", ">").replace(",", "")
    return Both(text, short)
