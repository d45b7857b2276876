"""Numbers -> the sections of one page that people can read."""

import html
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from . import figures
from .figures import Curve, byte_text
from .page import Section, figure, grid, notes, table, write_page
from .summary import (
    Cell,
    ResultRow,
    Setting,
    hardest,
    setting_key,
    summarise,
    widest,
)

CurveKey = tuple[str, Setting]

_NOTES = (
    "micro-MQAR: the task of Zoology (arXiv 2312.04927) with a smaller vocabulary, "
    "blank filler by default (published: random), shorter sequences and models, and "
    "fewer steps than published. Compare layers on this page with each other, not with "
    "numbers from papers.",
    "Every layer stands in the same model: same width and depth, the same short "
    "convolution on queries, keys and values, no MLP.",
    "Accuracy is the share of queries answered right, on sequences that were never "
    "trained on. Training ends early when it reaches the goal on these sequences.",
    "Chance is 1 / pairs: naming any value that stands in the sequence.",
    "State is counted from the arrays that are carried from token to token, for one "
    "sequence and the whole model, convolution tails included. That of attention grows "
    "with the length and is given at the length of the task.",
)


def write_report(
    path: str | Path, sections: Sequence[Section], *, title: str, finding: str
) -> Path:
    """One self-contained page at `path`.

    Args:
        path: the HTML file.
        sections: as made by `recall_sections`, `text_section` and `made_section`.
        title: of the page, plain text.
        finding: what was found, in a sentence; plain text.
    """
    return write_page(Path(path), title=title, finding=finding, sections=sections)


def recall_finding(rows: Sequence[ResultRow]) -> str:
    """The result at the hardest setting, in a sentence."""
    cells = sorted(widest(hardest(summarise(rows))), key=lambda c: -c.mean)
    pairs, length = cells[0].of("num_pairs"), cells[0].of("length")
    said = ", ".join(f"{c.layer} {percent_text(c.mean)}" for c in cells)
    chance = cells[0].chance
    level = "" if chance is None else f" (chance: {percent_text(chance)})"
    asked = cells[0].of("num_queries")
    of = f"{asked} of {pairs}" if asked else f"{pairs}"
    return f"Recall of {of} key-value pairs in {length} tokens: {said}{level}."


def recall_sections(
    rows: Sequence[ResultRow],
    curves: Mapping[CurveKey, Sequence[Curve]],
    *,
    steps: int,
    goal: float,
) -> list[Section]:
    """The table, the figures and the remarks of a comparison of recall.

    Args:
        rows: as in results.json.
        curves: the course of every training, by layer and setting.
        steps: most steps of a training.
        goal: accuracy at which a training ends.
    """
    cells = summarise(rows)
    numbers = series_numbers(cells)
    key = legend(numbers)
    top = hardest(cells)
    return [
        Section(
            title="Accuracy",
            lead=_lead(cells),
            body=key + grid(_accuracy_figures(cells, top, numbers)),
        ),
        Section(
            title="Every number",
            lead="Each layer at its best learning rate; every dot is a seed, the tick "
            "marks chance.",
            body="".join(_tables(cells, numbers, goal)),
        ),
        *curve_sections(top, curves, numbers, steps),
        Section(title="How to read this", body=notes(_NOTES)),
    ]


def text_section(rows: Sequence[ResultRow], *, name: str) -> Section:
    """Bits per byte and accuracy on text, over all and by the length of the context.

    Args:
        rows: as in results.json, with the metrics of `evals.perplexity`.
        name: what the text is, plain text.
    """
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    numbers = {layer: i for i, layer in enumerate(layers)}
    lines: dict[str, dict[str, list[tuple[int, float]]]] = {}
    whole: dict[tuple[str, str], float] = {}
    sizes = {row["layer"]: row for row in rows}
    for row in rows:
        layer, metric, setting = row["layer"], row["metric"], row["setting"]
        if "context_to" in setting:
            points = lines.setdefault(metric, {}).setdefault(layer, [])
            points.append((setting["context_to"], row["value"]))
        else:
            whole[layer, metric] = row["value"]
    body = table(
        ("layer", "parameters", "state", "bits per byte", "next byte right"),
        [
            (
                name_cell(layer, numbers[layer]),
                f"{sizes[layer]['parameters']:,}",
                byte_text(sizes[layer]["state_bytes"]),
                f"{whole[layer, 'bits_per_byte']:.3f}",
                percent_text(whole[layer, "accuracy"]),
            )
            for layer in layers
        ],
    )
    key = legend(numbers) if len(layers) > 1 else ""
    return Section(
        title="Real text",
        lead=f"{name}, held-out files.",
        body=f"{body}<br>{key}{grid(_text_figures(lines, numbers))}",
    )


def _text_figures(
    lines: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]],
    numbers: Mapping[str, int],
) -> list[str]:
    """A figure for every metric of text that was measured by context."""
    return [
        figure(
            figures.by_context(
                lines[metric], numbers, name=metric, label=label, share=share
            ),
            title,
            caption,
        )
        for metric, label, share, title, caption in (
            (
                "bits_per_byte",
                "bits per byte",
                False,
                "Does it use its context?",
                "Bits per byte by how much of the document was read. Lower is better.",
            ),
            (
                "accuracy",
                "accuracy (share of bytes)",
                True,
                "How often is the next byte right?",
                "Share of bytes that the model held most probable, by context.",
            ),
        )
        if metric in lines
    ]


def made_section(
    command: str, versions: Mapping[str, str], details: Sequence[str] = ()
) -> Section:
    """How the page was made, so that it can be made again."""
    listed = ", ".join(f"{name} {number}" for name, number in versions.items())
    return Section(
        title="How this was made",
        body=f"<pre>{html.escape(command)}</pre>" + notes([listed, *details]),
    )


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    numbers = {name: version(name) for name in ("memzoo", "jax", "flax", "optax")}
    return {"python": platform.python_version(), **numbers}


def series_numbers(cells: Sequence[Cell]) -> dict[str, int]:
    """One series for every layer, in order."""
    layers = dict.fromkeys(cell.layer for cell in cells)
    return {layer: i for i, layer in enumerate(layers)}


def curve_key(layer: str, setting: Mapping[str, Any]) -> CurveKey:
    """Where `recall_sections` looks for the curves of a layer on a setting."""
    return layer, setting_key(setting)


def steps_text(cell: Cell) -> str:
    """Steps to the goal: one number, a range, or `> steps` where a seed missed it."""
    missed = [run.trained for run in cell.best if run.steps is None]
    least = f"> {max(missed):,}" if missed else ""
    if not cell.reached:
        return least
    low, high = min(cell.reached), max(cell.reached)
    if missed:
        return f"{low:,} to {least}"
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def range_text(cell: Cell) -> str:
    """Lowest and highest seed."""
    if len(cell.values) == 1:
        return "one seed"
    return f"{min(cell.values):.3f} to {max(cell.values):.3f}"


def _lead(cells: Sequence[Cell]) -> str:
    """What a line in the figures stands for."""
    if all(len(cell.runs) == 1 for cell in cells):
        return "One seed and one learning rate: a first look, not yet a comparison."
    return (
        "Each layer at its best learning rate: lines are means over seeds, small dots "
        "are single seeds."
    )


def _tables(
    cells: Sequence[Cell], numbers: Mapping[str, int], goal: float
) -> list[str]:
    """One table for every setting, the last one first."""
    parts = []
    settings = dict.fromkeys(cell.setting for cell in cells)
    one_width = len({cell.of("width") for cell in cells}) == 1
    for setting in reversed(settings):
        group = [cell for cell in cells if cell.setting == setting]
        rows = [
            (
                name_cell(cell.layer, numbers[cell.layer]),
                f"{cell.parameters:,}",
                byte_text(cell.state_bytes),
                f"{cell.learning_rate:g}",
                f"{len(cell.reached)} of {len(cell.best)}",
                f"{cell.mean:.3f}",
                range_text(cell),
                figures.seed_strip(cell.values, cell.chance, numbers[cell.layer]),
                steps_text(cell),
            )
            for cell in group
        ]
        head = (
            "layer",
            "parameters",
            "state",
            "best learning rate",
            f"seeds at {goal:g}",
            "mean accuracy",
            "lowest to highest",
            "seeds, 0 to 1",
            f"steps to {goal:g}",
        )
        width = "" if one_width else f", width {group[0].of('width')}"
        parts.append(f"<h3>{html.escape(group[0].text + width)}</h3>")
        parts.append(table(head, rows))
    return parts


def _accuracy_figures(
    cells: Sequence[Cell], top: Sequence[Cell], numbers: dict[str, int]
) -> list[str]:
    parts = []
    where = top[0].text
    if len({cell.of("num_pairs") for cell in cells}) > 1:
        parts.append(
            figure(
                figures.accuracy_by_pairs(widest(cells), numbers),
                "How much can be held?",
                "Accuracy against the number of key-value pairs in a sequence.",
            )
        )
    parts.append(
        figure(
            figures.accuracy_by_state(top, numbers),
            "What does it cost?",
            f"Accuracy against bytes of state, {where}. Up and left is better.",
        )
    )
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
    """The course of every training at one setting, a figure a layer; none if unknown.

    Args:
        top: the cells of the setting.
        curves: the course of every training, by layer and setting.
        numbers: the series of every layer.
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
        "Colour: the best learning rate, every seed thin and the best seed thick; "
        "grey: the other learning rates; dotted: chance. A line that ends early has "
        "reached the goal."
    )
    return [Section(title="Learning curves", lead=lead, body=grid(parts, "small"))]


def name_cell(layer: str, number: int) -> str:
    """A layer's name with the look of its series, as HTML."""
    return f'<span class="name">{figures.swatch(number)}{html.escape(layer)}</span>'


def legend(numbers: Mapping[str, int]) -> str:
    """The looks of all series, as HTML."""
    items = [
        f"<li>{figures.swatch(number)}{html.escape(layer)}</li>"
        for layer, number in numbers.items()
    ]
    return f'<ul class="legend">{"".join(items)}</ul>'


def percent_text(value: float) -> str:
    """A share as a percentage that is never rounded up to all or down to nothing."""
    text = f"{100 * value:.1f}"
    if text == "100.0" and value < 1:
        text = "99.9"
    return f"{text} %"
