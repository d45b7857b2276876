"""Figures as inline SVG, with the colours and font of the page around them.

The SVG uses CSS variables as colours (`--ink`, `--grid`, `--series-0` and so on), so
one figure serves a light and a dark page.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from .drawing import (
    INK,
    MUTED,
    PAPER,
    accuracy_axis,
    chance_label,
    dots,
    draw_figure,
    layers_of,
    line_and_seeds,
    series,
    ticks,
)
from .number_text import byte_text
from .number_text import duration_text as duration_text
from .summary import Cell

_NAME_HEIGHT = 0.058  # of a name beside a point, as a share of the axis


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Learning curve of one training."""

    learning_rate: float
    seed: int
    steps: tuple[int, ...]
    accuracy: tuple[float, ...]


def accuracy_by_setting(
    cells: Sequence[Cell],
    numbers: Mapping[str, int],
    field: str,
    *,
    name: str,
    title: str,
    axis: str,
    label: str = "accuracy (share of queries)",
    tick: Callable[[int], str] = str,
    trained: int | None = None,
) -> str:
    """Draw mean accuracy against a number of the setting, with a dot for every seed.

    Args:
        cells: one per layer and number.
        numbers: series number of every layer.
        field: name of that number; the axis is logarithmic, base 2.
        name: prefix of the figure's identifiers.
        title: text for readers who cannot see the figure.
        axis: label of the horizontal axis.
        label: label of the vertical axis.
        tick: formats a number of the horizontal axis.
        trained: number that the models were trained on, marked by a line.
    """

    def draw(axes: Axes) -> None:
        places = sorted({cell.of(field) for cell in cells})
        levels = {c.of(field): c.chance for c in cells if c.chance is not None}
        chance = sorted(levels.items())
        if chance:
            axes.plot(*zip(*chance, strict=True), ":", color=MUTED, lw=1.5)
            chance_label(axes, *chance[0])
        for layer in layers_of(cells):
            line = [c for c in cells if c.layer == layer]
            line.sort(key=lambda c: c.of(field))
            line_and_seeds(axes, line, [c.of(field) for c in line], numbers[layer])
        axes.set_xscale("log", base=2)
        ticks(axes, places, [tick(place) for place in places])
        axes.set_xlabel(axis)
        accuracy_axis(axes, label)
        if trained is not None:
            axes.axvline(trained, color=MUTED, lw=1.2, ls="--")
            place: dict[str, Any] = {"xytext": (4, 4), "textcoords": "offset points"}
            axes.annotate("trained", (trained, 1.0), color=MUTED, **place)
            axes.set_ylim(0, 1.1)

    return draw_figure(draw, name, title)


def accuracy_by_state(cells: Sequence[Cell], numbers: Mapping[str, int]) -> str:
    """Draw mean accuracy against bytes of state at one setting, with a dot for every
    seed."""

    def draw(axes: Axes) -> None:
        sizes = sorted({cell.state_bytes for cell in cells})
        chance = cells[0].chance
        taken = [chance or 0.0]
        for layer in layers_of(cells):
            line = sorted(
                (c for c in cells if c.layer == layer), key=lambda c: c.state_bytes
            )
            line_and_seeds(axes, line, [c.state_bytes for c in line], numbers[layer])
            _point_name(axes, line[-1], sizes, taken)
        low, high = sizes[0] / 1.6, sizes[-1] * 1.6
        axes.set_xscale("log", base=2)
        axes.set_xlim(low, high)
        powers = [2**n for n in range(60) if low <= 2**n <= high]
        powers = powers[:: 1 + len(powers) // 6]
        ticks(axes, powers, [byte_text(n) for n in powers])
        axes.set_xlabel("state carried from token to token (bytes, log scale)")
        if chance is not None:
            axes.axhline(chance, ls=":", color=MUTED, lw=1.5)
            chance_label(axes, low, chance)
        accuracy_axis(axes)

    return draw_figure(draw, "state", "Accuracy against bytes of state")


def learning_curves(
    cell: Cell, curves: Sequence[Curve], number: int, last_step: int
) -> str:
    """Draw accuracy against steps for every training of a cell, the best one thick."""

    def draw(axes: Axes) -> None:
        best = max(cell.best, key=lambda run: (run.value, -(run.steps or last_step)))
        look = series(number)
        for curve in curves:
            chosen = curve.learning_rate == cell.learning_rate
            thick = chosen and curve.seed == best.seed
            axes.plot(
                (0, *curve.steps),
                (0.0, *curve.accuracy),
                color=look["color"] if chosen else MUTED,
                lw=2.6 if thick else 1.1,
                alpha=1.0 if chosen else 0.45,
                zorder=3 if thick else 2,
            )
        if cell.chance is not None:
            axes.axhline(cell.chance, ls=":", color=MUTED, lw=1.2)
        axes.set_xlim(0, last_step)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_xlabel("optimizer steps")
        accuracy_axis(axes)

    name = f"curve{number}"
    return draw_figure(
        draw, name, f"Learning curves of {cell.layer}", width=3.4, height=2.5
    )


def accuracy_by_learning_rate(cells: Sequence[Cell], numbers: Mapping[str, int]) -> str:
    """Draw mean accuracy against the learning rate, with a dot for every seed."""

    def draw(axes: Axes) -> None:
        rates = sorted({run.learning_rate for cell in cells for run in cell.runs})
        for cell in cells:
            look = series(numbers[cell.layer])
            own = sorted({run.learning_rate for run in cell.runs})
            groups = [[r.value for r in cell.runs if r.learning_rate == x] for x in own]
            axes.plot(own, [sum(g) / len(g) for g in groups], zorder=3, **look)
            for rate, group in zip(own, groups, strict=True):
                dots(axes, [rate] * len(group), group, look)
        axes.set_xscale("log")
        ticks(axes, rates, [f"{rate:g}" for rate in rates])
        axes.set_xlabel("peak learning rate")
        accuracy_axis(axes)

    return draw_figure(draw, "rates", "Accuracy against the learning rate")


def by_context(
    lines: Mapping[str, Sequence[tuple[int, float]]],
    numbers: Mapping[str, int],
    *,
    name: str,
    label: str,
    share: bool,
) -> str:
    """Draw a measure against the length of the context, one line per layer.

    Args:
        lines: for every layer, (longest context of the group, value).
        numbers: series number of every layer.
        name: prefix of the figure's identifiers.
        label: label of the vertical axis.
        share: whether the measure is a share, drawn on an axis from 0 to 1.
    """

    def draw(axes: Axes) -> None:
        ends = sorted({end for line in lines.values() for end, _ in line})
        for layer, line in lines.items():
            axes.plot(*zip(*line, strict=True), **series(numbers[layer]))
        axes.set_xscale("log", base=2)
        ticks(axes, ends, [str(end) for end in ends])
        axes.set_xlabel("tokens of context, up to")
        axes.set_ylabel(label)
        top = max(value for line in lines.values() for _, value in line)
        axes.set_ylim(0, 1 if share else 1.1 * top)
        if share:
            axes.yaxis.set_major_formatter("{x:.0%}")

    return draw_figure(draw, name, label)


def share_fields(
    axes: Axes, shares: Sequence[Sequence[float | None]], number: int
) -> None:
    """Draw shares as squares, darker for larger shares, with the percentage in each."""
    look = series(number)
    for y, row in enumerate(shares):
        for x, value in enumerate(row):
            if value is None:
                continue
            field = Rectangle((x - 0.47, y - 0.47), 0.94, 0.94)
            field.set(facecolor=look["color"], alpha=value, linewidth=0)
            axes.add_patch(field)
            ink = PAPER if value > 0.55 else INK
            text = f"{100 * value:.0f}"
            axes.text(x, y, text, ha="center", va="center", fontsize=8, color=ink)
    axes.set_xlim(-0.5, len(shares[0]) - 0.5)
    axes.set_ylim(len(shares) - 0.5, -0.5)
    axes.grid(False)


def _point_name(
    axes: Axes, cell: Cell, sizes: Sequence[int], taken: list[float]
) -> None:
    """Write the layer's name beside its point, moved towards the middle off other
    text.
    """
    left = len(sizes) > 1 and cell.state_bytes**2 > sizes[0] * sizes[-1]
    y, away = cell.mean, -1 if cell.mean > 0.5 else 1
    while any(abs(y - other) < _NAME_HEIGHT for other in taken):
        y += away * _NAME_HEIGHT / 8
    taken.append(y)
    if abs(y - cell.mean) > _NAME_HEIGHT / 2:
        # Connect a name that was moved away to its point.
        axes.plot([cell.state_bytes] * 2, [cell.mean, y], color=MUTED, lw=0.7, zorder=1)
    place: dict[str, Any] = {
        "xytext": (-8 if left else 8, 0),
        "textcoords": "offset points",
        "ha": "right" if left else "left",
    }
    axes.annotate(cell.layer, (cell.state_bytes, y), va="center", fontsize=8, **place)
