"""Figures as inline SVG: they take their colours and font from the page around them.

The SVG holds CSS variables in place of colours (`--ink`, `--grid`, `--series-0`
and so on), so one figure serves a light and a dark page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from .drawing import (
    INK,
    MUTED,
    PAPER,
    SERIES,
    STYLE,
    accuracy_axis,
    as_svg,
    chance_label,
    dots,
    draw_figure,
    layers_of,
    line_and_seeds,
    series,
    ticks,
)
from .summary import Cell

_NAME_HEIGHT = 0.058  # of a name beside a point, as a share of the axis


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Accuracy of one training as it went on."""

    learning_rate: float
    seed: int
    steps: tuple[int, ...]
    accuracy: tuple[float, ...]


def swatch(number: int) -> str:
    """The line and marker of a series, for a legend."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.36, 0.16))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        axes.plot([0, 1, 2], [0, 0, 0], **series(number))
        axes.lines[0].set_markevery([1])
        axes.set_ylim(-1, 1)
        return as_svg(figure, f"swatch{number}", "")


def accuracy_by_pairs(cells: Sequence[Cell], numbers: Mapping[str, int]) -> str:
    """Mean accuracy against the number of pairs, a point for every seed."""

    def draw(axes: Axes) -> None:
        pairs = sorted({cell.of("num_pairs") for cell in cells})
        levels = {c.of("num_pairs"): c.chance for c in cells if c.chance is not None}
        chance = sorted(levels.items())
        if chance:
            axes.plot(*zip(*chance, strict=True), ":", color=MUTED, lw=1.5)
            chance_label(axes, *chance[0])
        for layer in layers_of(cells):
            line = [c for c in cells if c.layer == layer]
            line.sort(key=lambda c: c.of("num_pairs"))
            line_and_seeds(
                axes, line, [c.of("num_pairs") for c in line], numbers[layer]
            )
        axes.set_xscale("log", base=2)
        ticks(axes, pairs, [str(p) for p in pairs])
        axes.set_xlabel("key-value pairs in the sequence")
        accuracy_axis(axes)

    return draw_figure(draw, "pairs", "Accuracy against the number of pairs")


def accuracy_by_state(cells: Sequence[Cell], numbers: Mapping[str, int]) -> str:
    """Mean accuracy against bytes of state, a point for every seed, at one setting."""

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
    """Accuracy against steps of every training of a cell, the best one thick."""

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
    """Mean accuracy against the learning rate, a point for every seed."""

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
    """A measure against the length of the context, a line for every layer.

    Args:
        lines: for every layer, (longest context of the group, value).
        numbers: the series of every layer.
        name: of the figure, in its identifiers.
        label: of the vertical axis.
        share: the measure lies between 0 and 1 and is drawn so.
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


def accuracy_by_length(
    cells: Sequence[Cell],
    numbers: Mapping[str, int],
    trained: int,
    *,
    name: str,
    label: str,
) -> str:
    """A share against the length that is read, the trained length marked.

    Args:
        cells: one a layer and length.
        numbers: the series of every layer.
        trained: tokens in a row that was trained on.
        name: of the figure, in its identifiers.
        label: of the vertical axis.
    """

    def draw(axes: Axes) -> None:
        lengths = sorted({cell.of("length") for cell in cells})
        axes.axvline(trained, color=MUTED, lw=1.2, ls="--")
        axes.annotate(
            "trained",
            (trained, 1.0),
            xytext=(4, 4),
            textcoords="offset points",
            color=MUTED,
        )
        for layer in layers_of(cells):
            line = [c for c in cells if c.layer == layer]
            line.sort(key=lambda c: c.of("length"))
            line_and_seeds(axes, line, [c.of("length") for c in line], numbers[layer])
        chance = cells[0].chance
        if chance is not None:
            axes.axhline(chance, ls=":", color=MUTED, lw=1.5)
            chance_label(axes, lengths[0], chance)
        axes.set_xscale("log", base=2)
        ticks(axes, lengths, [length_text(length) for length in lengths])
        axes.set_xlabel("tokens read (log scale)")
        accuracy_axis(axes, label)
        axes.set_ylim(0, 1.1)

    return draw_figure(draw, name, "Accuracy against the length")


def depth_map(
    values: Mapping[tuple[int, float], float], layer: str, number: int
) -> str:
    """A field for every length and depth, the fuller the better.

    Args:
        values: a share for every (length, depth).
        layer: whose values they are.
        number: of its series.
    """
    lengths = sorted({length for length, _ in values})
    depths = sorted({depth for _, depth in values})
    shares = [[values.get((n, d)) for n in lengths] for d in depths]

    def draw(axes: Axes) -> None:
        _fields(axes, shares, number)
        ticks(axes, range(len(lengths)), [length_text(n) for n in lengths])
        axes.set_yticks(range(len(depths)), [f"{100 * d:.0f} %" for d in depths])
        axes.set_xlabel("tokens read")
        axes.set_ylabel("noise before the needle")

    name = f"depth{number}"
    title = f"Accuracy of {layer} by depth"
    return draw_figure(draw, name, title, width=3.6, height=2.3)


def routing_map(
    values: Mapping[tuple[str, int], float],
    kinds: Sequence[str],
    title: str,
    number: int,
) -> str:
    """A field for every kind of token and memory, the fuller the more tokens.

    Args:
        values: a share for every (kind, memory).
        kinds: of tokens, from above.
        title: whose values they are.
        number: of its series.
    """
    memories = sorted({memory for _, memory in values})
    shares = [[values.get((kind, memory)) for memory in memories] for kind in kinds]

    def draw(axes: Axes) -> None:
        _fields(axes, shares, number)
        ticks(axes, range(len(memories)), [str(m + 1) for m in memories])
        axes.set_yticks(range(len(kinds)), list(kinds))
        axes.set_xlabel("memory")

    name = "routing" + "".join(letter for letter in title if letter.isalnum())
    said = f"Memories that tokens are sent to, {title}"
    return draw_figure(draw, name, said, width=3.2, height=2.3)


def _fields(axes: Axes, shares: Sequence[Sequence[float | None]], number: int) -> None:
    """Shares as squares, the fuller the larger, and as numbers of a hundred."""
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


def length_text(length: int) -> str:
    """A number of tokens as people read it: 256, 1k, 16k."""
    return f"{length // 1024}k" if length % 1024 == 0 else str(length)


def seed_strip(values: Sequence[float], chance: float | None, number: int) -> str:
    """A line from 0 to 1 with a dot for every value and a tick at chance."""
    left, right, middle = 5, 95, 8
    at = [left + (right - left) * min(max(v, 0.0), 1.0) for v in values]
    parts = [
        f'<line x1="{left}" y1="{middle}" x2="{right}" y2="{middle}" class="rail"/>'
    ]
    if chance is not None:
        x = left + (right - left) * chance
        parts.append(f'<line x1="{x:.1f}" y1="2" x2="{x:.1f}" y2="14" class="chance"/>')
    colour = f"var(--series-{number % SERIES})"
    parts += [
        f'<circle cx="{x:.1f}" cy="{middle}" r="4" style="fill: {colour}"/>' for x in at
    ]
    return (
        '<svg class="strip" viewBox="0 0 100 16" aria-hidden="true">'
        + "".join(parts)
        + "</svg>"
    )


def byte_text(count: int) -> str:
    """Bytes as people read them: 512 B, 33.8 KiB, 2 MiB."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"


def duration_text(seconds: float) -> str:
    """Seconds as people read them: 45 s, 12 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _point_name(
    axes: Axes, cell: Cell, sizes: Sequence[int], taken: list[float]
) -> None:
    """The layer's name beside its point, moved towards the middle off other text."""
    left = len(sizes) > 1 and cell.state_bytes**2 > sizes[0] * sizes[-1]
    y, away = cell.mean, -1 if cell.mean > 0.5 else 1
    while any(abs(y - other) < _NAME_HEIGHT for other in taken):
        y += away * _NAME_HEIGHT / 8
    taken.append(y)
    if abs(y - cell.mean) > _NAME_HEIGHT / 2:
        # A line leads from the point to a name that stands apart from it.
        axes.plot([cell.state_bytes] * 2, [cell.mean, y], color=MUTED, lw=0.7, zorder=1)
    place: dict[str, Any] = {
        "xytext": (-8 if left else 8, 0),
        "textcoords": "offset points",
        "ha": "right" if left else "left",
    }
    axes.annotate(cell.layer, (cell.state_bytes, y), va="center", fontsize=8, **place)
