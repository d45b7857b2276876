"""Figures as inline SVG: they take their colours and font from the page around them.

The SVG holds CSS variables in place of colours (`--ink`, `--grid`, `--series-0`
and so on), so one figure serves a light and a dark page.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from .summary import Cell

SERIES = 8
"""Colours that the page defines, from `--series-0` on; further series begin anew."""

_INK, _MUTED, _GRID, _PAPER = "#010101", "#020202", "#030303", "#040404"
_MARKERS = "osD^vPX*"
_NAME_HEIGHT = 0.058  # of a name beside a point, as a share of the axis
_WIDTH, _HEIGHT = 4.8, 3.3
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": _INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "lines.linewidth": 2.0,
    "lines.markersize": 6.5,
}


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Accuracy of one training as it went on."""

    learning_rate: float
    seed: int
    steps: tuple[int, ...]
    accuracy: tuple[float, ...]


def swatch(number: int) -> str:
    """The line and marker of a series, for a legend."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(0.36, 0.16))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        axes.plot([0, 1, 2], [0, 0, 0], **_series(number))
        axes.lines[0].set_markevery([1])
        axes.set_ylim(-1, 1)
        return _svg(figure, f"swatch{number}", "")


def accuracy_by_pairs(cells: Sequence[Cell], numbers: Mapping[str, int]) -> str:
    """Mean accuracy against the number of pairs, a point for every seed."""

    def draw(axes: Axes) -> None:
        pairs = sorted({cell.of("num_pairs") for cell in cells})
        levels = {c.of("num_pairs"): c.chance for c in cells if c.chance is not None}
        chance = sorted(levels.items())
        if chance:
            axes.plot(*zip(*chance, strict=True), ":", color=_MUTED, lw=1.5)
            _chance_label(axes, *chance[0])
        for layer in _layers(cells):
            line = [c for c in cells if c.layer == layer]
            line.sort(key=lambda c: c.of("num_pairs"))
            _line_and_seeds(
                axes, line, [c.of("num_pairs") for c in line], numbers[layer]
            )
        axes.set_xscale("log", base=2)
        _ticks(axes, pairs, [str(p) for p in pairs])
        axes.set_xlabel("key-value pairs in the sequence")
        _accuracy_axis(axes)

    return _figure(draw, "pairs", "Accuracy against the number of pairs")


def accuracy_by_state(cells: Sequence[Cell], numbers: Mapping[str, int]) -> str:
    """Mean accuracy against bytes of state, a point for every seed, at one setting."""

    def draw(axes: Axes) -> None:
        sizes = sorted({cell.state_bytes for cell in cells})
        chance = cells[0].chance
        taken = [chance or 0.0]
        for layer in _layers(cells):
            line = sorted(
                (c for c in cells if c.layer == layer), key=lambda c: c.state_bytes
            )
            _line_and_seeds(axes, line, [c.state_bytes for c in line], numbers[layer])
            _point_name(axes, line[-1], sizes, taken)
        low, high = sizes[0] / 1.6, sizes[-1] * 1.6
        axes.set_xscale("log", base=2)
        axes.set_xlim(low, high)
        powers = [2**n for n in range(60) if low <= 2**n <= high]
        powers = powers[:: 1 + len(powers) // 6]
        _ticks(axes, powers, [byte_text(n) for n in powers])
        axes.set_xlabel("state carried from token to token (bytes, log scale)")
        if chance is not None:
            axes.axhline(chance, ls=":", color=_MUTED, lw=1.5)
            _chance_label(axes, low, chance)
        _accuracy_axis(axes)

    return _figure(draw, "state", "Accuracy against bytes of state")


def learning_curves(
    cell: Cell, curves: Sequence[Curve], number: int, last_step: int
) -> str:
    """Accuracy against steps of every training of a cell, the best one thick."""

    def draw(axes: Axes) -> None:
        best = max(cell.best, key=lambda run: (run.value, -(run.steps or last_step)))
        look = _series(number)
        for curve in curves:
            chosen = curve.learning_rate == cell.learning_rate
            thick = chosen and curve.seed == best.seed
            axes.plot(
                (0, *curve.steps),
                (0.0, *curve.accuracy),
                color=look["color"] if chosen else _MUTED,
                lw=2.6 if thick else 1.1,
                alpha=1.0 if chosen else 0.45,
                zorder=3 if thick else 2,
            )
        if cell.chance is not None:
            axes.axhline(cell.chance, ls=":", color=_MUTED, lw=1.2)
        axes.set_xlim(0, last_step)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_xlabel("optimizer steps")
        _accuracy_axis(axes)

    name = f"curve{number}"
    return _figure(
        draw, name, f"Learning curves of {cell.layer}", width=3.4, height=2.5
    )


def accuracy_by_learning_rate(cells: Sequence[Cell], numbers: Mapping[str, int]) -> str:
    """Mean accuracy against the learning rate, a point for every seed."""

    def draw(axes: Axes) -> None:
        rates = sorted({run.learning_rate for cell in cells for run in cell.runs})
        for cell in cells:
            look = _series(numbers[cell.layer])
            own = sorted({run.learning_rate for run in cell.runs})
            groups = [[r.value for r in cell.runs if r.learning_rate == x] for x in own]
            axes.plot(own, [sum(g) / len(g) for g in groups], zorder=3, **look)
            for rate, group in zip(own, groups, strict=True):
                _dots(axes, [rate] * len(group), group, look)
        axes.set_xscale("log")
        _ticks(axes, rates, [f"{rate:g}" for rate in rates])
        axes.set_xlabel("peak learning rate")
        _accuracy_axis(axes)

    return _figure(draw, "rates", "Accuracy against the learning rate")


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
            axes.plot(*zip(*line, strict=True), **_series(numbers[layer]))
        axes.set_xscale("log", base=2)
        _ticks(axes, ends, [str(end) for end in ends])
        axes.set_xlabel("tokens of context, up to")
        axes.set_ylabel(label)
        top = max(value for line in lines.values() for _, value in line)
        axes.set_ylim(0, 1 if share else 1.1 * top)
        if share:
            axes.yaxis.set_major_formatter("{x:.0%}")

    return _figure(draw, name, label)


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


def _line_and_seeds(
    axes: Axes, line: Sequence[Cell], where: Sequence[float], number: int
) -> None:
    look = _series(number)
    axes.plot(where, [cell.mean for cell in line], zorder=3, **look)
    for x, cell in zip(where, line, strict=True):
        if len(cell.values) > 1:
            _dots(axes, [x] * len(cell.values), cell.values, look)


def _dots(
    axes: Axes, xs: Sequence[float], ys: Sequence[float], look: dict[str, Any]
) -> None:
    axes.plot(xs, ys, "o", ms=3.2, color=look["color"], alpha=0.55, mew=0, zorder=2)


def _layers(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.layer for cell in cells))


def _series(number: int) -> dict[str, Any]:
    """Colour and marker of a series; the stand-in colour becomes a CSS variable."""
    return {
        "color": f"#0505{number % SERIES:02x}",
        "marker": _MARKERS[number % len(_MARKERS)],
        "markeredgecolor": _PAPER,
        "markeredgewidth": 0.8,
        "linestyle": ("-", "--", "-.")[number // SERIES % 3],
    }


def _point_name(
    axes: Axes, cell: Cell, sizes: Sequence[int], taken: list[float]
) -> None:
    """The layer's name beside its point, moved towards the middle off other text."""
    left = len(sizes) > 1 and cell.state_bytes**2 > sizes[0] * sizes[-1]
    y, away = cell.mean, -1 if cell.mean > 0.5 else 1
    while any(abs(y - other) < _NAME_HEIGHT for other in taken):
        y += away * _NAME_HEIGHT / 8
    taken.append(y)
    place: dict[str, Any] = {
        "xytext": (-8 if left else 8, 0),
        "textcoords": "offset points",
        "ha": "right" if left else "left",
    }
    axes.annotate(cell.layer, (cell.state_bytes, y), va="center", fontsize=8, **place)


def _chance_label(axes: Axes, x: float, y: float) -> None:
    place: dict[str, Any] = {"xytext": (5, 4), "textcoords": "offset points"}
    axes.annotate("chance", (x, y), color=_MUTED, **place)


def _accuracy_axis(axes: Axes) -> None:
    axes.set_ylim(0, 1.04)
    axes.yaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_ylabel("accuracy (share of queries)")


def _ticks(axes: Axes, places: Sequence[float], labels: Sequence[str]) -> None:
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(list(places), list(labels))


def _figure(
    draw: Any, name: str, title: str, *, width: float = _WIDTH, height: float = _HEIGHT
) -> str:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.add_subplot())
        return _svg(figure, name, title)


def _svg(figure: Figure, name: str, title: str) -> str:
    """The figure as an element of an HTML page, with nothing that points outside."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = text.replace("xlink:href", "href")
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font: (\d[\d.]*px) [^;\"]*", r"font: \1 var(--sans)", text)
    for stand_in, variable in (
        (_INK, "ink"),
        (_MUTED, "muted"),
        (_GRID, "grid"),
        (_PAPER, "paper"),
    ):
        text = text.replace(stand_in, f"var(--{variable})")
    text = re.sub(
        r"#0505([0-9a-f]{2})", lambda m: f"var(--series-{int(m[1], 16)})", text
    )
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    label = f'role="img" aria-label="{title}"' if title else 'aria-hidden="true"'
    return text.replace("<svg", f"<svg {label}", 1).strip()
