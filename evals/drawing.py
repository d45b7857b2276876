"""Parts of figures: the look of a series, axes, and a figure as inline SVG."""

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from .summary import Cell

SERIES = 8
"""Number of colours that the page defines, from `--series-0` on; later series reuse
them."""

INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
_MARKERS = "osD^vPX*"
_WIDTH, _HEIGHT = 4.8, 3.3
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 2.0,
    "lines.markersize": 6.5,
}


def line_and_seeds(
    axes: Axes, line: Sequence[Cell], where: Sequence[float], number: int
) -> None:
    """Draw the means of a layer's cells as a line, with a dot for every seed."""
    look = series(number)
    axes.plot(where, [cell.mean for cell in line], zorder=3, **look)
    for x, cell in zip(where, line, strict=True):
        if len(cell.values) > 1:
            dots(axes, [x] * len(cell.values), cell.values, look)


def dots(
    axes: Axes, xs: Sequence[float], ys: Sequence[float], look: dict[str, Any]
) -> None:
    """Draw small points in the look of a series."""
    axes.plot(xs, ys, "o", ms=3.2, color=look["color"], alpha=0.55, mew=0, zorder=2)


def layers_of(cells: Sequence[Cell]) -> list[str]:
    """Return the layers of the cells, in order."""
    return list(dict.fromkeys(cell.layer for cell in cells))


def series(number: int) -> dict[str, Any]:
    """Return colour and marker of a series; `as_svg` turns the colour into a CSS
    variable."""
    return {
        "color": f"#0505{number % SERIES:02x}",
        "marker": _MARKERS[number % len(_MARKERS)],
        "markeredgecolor": PAPER,
        "markeredgewidth": 0.8,
        "linestyle": ("-", "--", "-.")[number // SERIES % 3],
    }


def chance_label(axes: Axes, x: float, y: float) -> None:
    """Write "chance" beside the chance line."""
    place: dict[str, Any] = {"xytext": (5, 4), "textcoords": "offset points"}
    axes.annotate("chance", (x, y), color=MUTED, **place)


def accuracy_axis(axes: Axes, label: str = "accuracy (share of queries)") -> None:
    """Set a vertical axis from 0 to 100 %."""
    axes.set_ylim(0, 1.04)
    axes.yaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_ylabel(label)


def ticks(axes: Axes, places: Sequence[float], labels: Sequence[str]) -> None:
    """Set the ticks of the horizontal axis to exactly these places."""
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(list(places), list(labels))


def draw_figure(
    draw: Any, name: str, title: str, *, width: float = _WIDTH, height: float = _HEIGHT
) -> str:
    """Return the figure that `draw` makes on empty axes, as SVG.

    Args:
        draw: called with the axes.
        name: prefix of the figure's identifiers.
        title: text for readers who cannot see the figure.
        width: inches.
        height: inches.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.add_subplot())
        return as_svg(figure, name, title)


def as_svg(figure: Figure, name: str, title: str) -> str:
    """Return the figure as an HTML element that refers to nothing outside it."""
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
        (INK, "ink"),
        (MUTED, "muted"),
        (GRID, "grid"),
        (PAPER, "paper"),
    ):
        text = text.replace(stand_in, f"var(--{variable})")
    text = re.sub(
        r"#0505([0-9a-f]{2})", lambda m: f"var(--series-{int(m[1], 16)})", text
    )
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    label = f'role="img" aria-label="{title}"' if title else 'aria-hidden="true"'
    return text.replace("<svg", f"<svg {label}", 1).strip()
