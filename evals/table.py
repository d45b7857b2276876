"""Tables, shown in a terminal and on a page."""

import functools
import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable

from .drawing import SERIES, STYLE, as_svg, series


class Name(NamedTuple):
    """Name of a layer; a page shows the look of its series beside it."""

    text: str
    number: int


class Both(NamedTuple):
    """Text for a page and a shorter one for a terminal."""

    text: str
    short: str


class Strip(NamedTuple):
    """Line from 0 to 1 with a dot for every value and a tick at chance."""

    values: Sequence[float]
    chance: float | None
    number: int


Cell = str | Name | Both | Strip


@dataclass(frozen=True, kw_only=True)
class Column:
    """Column of a table.

    Attributes:
        heading: heading on a page.
        short: short heading in a terminal; None: a terminal leaves the column out.
        words: whether the cells are words, which a narrow terminal may wrap.
    """

    heading: str
    short: str | None
    words: bool = False


LAYER = Column(heading="layer", short="layer", words=True)


def column(heading: str, short: str | None = "") -> Column:
    """Return a column of numbers; without `short`, a terminal shows the heading."""
    return Column(heading=heading, short=heading if short == "" else short)


@dataclass(frozen=True, kw_only=True)
class Table:
    """Table in plain text.

    Attributes:
        title: one line; empty if the section's title is enough.
        columns: columns; the first names the rows.
        rows: rows with one cell per column.
    """

    title: str = ""
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]


def print_table(table: Table, console: Console | None = None) -> None:
    """Print a table under its title; numbers are never cut."""
    console = Console() if console is None else console
    if table.title:
        console.print(table.title, style="bold", soft_wrap=True, markup=False)
    shown = RichTable(box=SIMPLE_HEAD, padding=0, show_edge=False)
    kept = []
    for number, head in enumerate(table.columns):
        if head.short is None:
            continue
        kept.append(number)
        if head.words:
            # Rich narrows columns that may wrap first.
            shown.add_column(head.short, overflow="fold")
        else:
            shown.add_column(head.short, justify="right", no_wrap=True)
    for row in table.rows:
        shown.add_row(*(_short(row[number]) for number in kept))
    console.print(shown, "")


def _short(cell: Cell) -> str:
    if isinstance(cell, Both):
        return cell.short
    if isinstance(cell, Name):
        return cell.text
    return "" if isinstance(cell, Strip) else cell


def html_table(table: Table) -> str:
    """Return a table as HTML; its rows become cards on a narrow screen."""
    heads = [html.escape(each.heading) for each in table.columns]
    top = "".join(f'<th scope="col">{name}</th>' for name in heads)
    lines = []
    for first, *others in table.rows:
        cells = "".join(
            f'<td data-label="{name}">{_html(cell)}</td>'
            for name, cell in zip(heads[1:], others, strict=True)
        )
        lines.append(f'<tr><th scope="row">{_html(first)}</th>{cells}</tr>')
    title = f"<h3>{html.escape(table.title)}</h3>" if table.title else ""
    return (
        f"{title}<table><thead><tr>{top}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def _html(cell: Cell) -> str:
    if isinstance(cell, Strip):
        return seed_strip(cell.values, cell.chance, cell.number)
    if isinstance(cell, Name):
        name = html.escape(cell.text)
        return f'<span class="name">{swatch(cell.number)}{name}</span>'
    return html.escape(cell.text if isinstance(cell, Both) else cell)


@functools.cache
def swatch(number: int) -> str:
    """Return the line and marker of a series as SVG."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.36, 0.16))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        axes.plot([0, 1, 2], [0, 0, 0], **series(number))
        axes.lines[0].set_markevery([1])
        axes.set_ylim(-1, 1)
        return as_svg(figure, f"swatch{number}", "")


def seed_strip(values: Sequence[float], chance: float | None, number: int) -> str:
    """Return a `Strip` as SVG."""
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
