"""The page of a document that was streamed: what bytes cost, and what surprised."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .drawing import draw_figure, series, ticks
from .page import Section, figure, grid, notes, write_page
from .recall import Row
from .stream import Curve, Streamed
from .table import Table, column

PAGE = "stream.html"


def write_stream_page(
    path: Path,
    streamed: Streamed,
    rows: Sequence[Row],
    *,
    layer: str,
    document: str,
    said: Sequence[str],
) -> Path:
    """The page is at `path`.

    Args:
        rows: of the tally: over all, then by context.
        layer: of the model, by name.
        document: where it comes from.
        said: remarks on this reading.

    Raises:
        SaveError: it cannot be written.
    """
    overall = {str(r["metric"]): r["value"] for r in rows if _covers_all(r)}
    cost = [r for r in rows if r["metric"] == "bits_per_byte" and not _covers_all(r)]
    finding = (
        f"{layer} read {streamed.length:,} bytes of {document} in one go, at "
        f"{overall['bits_per_byte']:.3f} bits a byte."
    )
    return write_page(
        path,
        title="A document, streamed",
        finding=finding,
        sections=[
            _cost_section(cost),
            _surprise_section(streamed, overall.get("surprise")),
            Section(title="This reading", parts=[notes(said)]),
        ],
    )


def cost_by_context(rows: Sequence[Row]) -> str:
    """Bits a byte against the context, which doubles from point to point."""

    def draw(axes: Axes) -> None:
        ends = [_ends(row)[1] for row in rows]
        axes.plot(ends, [row["value"] for row in rows], **series(0))  # type: ignore[arg-type]
        axes.set_xscale("log", base=2)
        shown = ends[:: 1 + len(ends) // 7]
        ticks(axes, shown, [short_count(end) for end in shown])
        axes.set_xlabel("bytes read, up to (log scale)")
        axes.set_ylabel("bits a byte")

    return draw_figure(draw, "cost", "Bits a byte against the context")


def surprise_curve(curve: Curve, read_before: int) -> str:
    """Surprise a token, as means over windows, against the place in the document."""

    def draw(axes: Axes) -> None:
        means = curve.means
        places = [read_before + (i + 0.5) * curve.window for i in range(len(means))]
        look = series(0) | {"marker": "", "linewidth": 1.3}
        axes.plot(places, means, **look)
        axes.set_ylim(0, 1.06 * (max(means) or 1))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_xlabel("place in the document (bytes)")
        axes.set_ylabel("surprise a token")

    return draw_figure(draw, "surprise", "Surprise against the place")


def _cost_section(rows: Sequence[Row]) -> Section:
    lines = [
        (f"{first:,} to {last:,}", f"{row['value']:.4f}", f"{row['count']:,}")
        for row in rows
        for first, last in [_ends(row)]
    ]
    drawn = figure(
        cost_by_context(rows),
        "Does a longer context help?",
        "Bits a byte, by the number of bytes of the document that were read.",
    )
    heads = ("bytes read", "bits a byte", "bytes predicted")
    table = Table(columns=[column(head) for head in heads], rows=lines)
    return Section(title="What a byte costs", parts=[grid([drawn]), table])


def _surprise_section(streamed: Streamed, mean: object) -> Section:
    title = "Surprise"
    curve = streamed.surprise
    if curve is None:
        lead = (
            "No layer of this model reported surprise: it has no neural memory that is "
            "written by gradient steps, or was not asked."
        )
        return Section(title=title, lead=lead)
    drawn = figure(
        surprise_curve(curve, streamed.carried.read - streamed.length),
        "What did the memory not foresee?",
        f"Means over windows of {curve.window:,} tokens; over all {mean:.4g}.",
    )
    lead = (
        "The loss of the memory at every token before it is written, "
        "||M(k) - v||^2, averaged over heads and layers."
    )
    return Section(title=title, lead=lead, parts=[grid([drawn])])


def _covers_all(row: Row) -> bool:
    setting = row["setting"]
    assert isinstance(setting, dict)
    return "context_to" not in setting


def _ends(row: Row) -> tuple[int, int]:
    """The first and the last context that a row covers."""
    setting = row["setting"]
    assert isinstance(setting, dict)
    return setting["context_from"], setting["context_to"]


def short_count(count: int) -> str:
    """A number of tokens as people read it: 512, 1k (1,024), 2k (2,000), 2M."""
    for power, unit in ((2, "M"), (1, "k")):
        if count and count % 1024**power == 0:
            return f"{count // 1024**power}{unit}"
    for power, unit in ((2, "M"), (1, "k")):
        if count >= 1000**power:
            return f"{count / 1000**power:.3g}{unit}"
    return str(count)
