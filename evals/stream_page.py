"""Page of a streamed document: bits per byte by context, and surprise."""

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
    """Write the page to `path`.

    Args:
        rows: rows of the tally: over all, then by context.
        layer: name of the model's layer.
        document: source of the document.
        said: remarks on this reading.

    Raises:
        SaveError: the page cannot be written.
    """
    overall = {str(r["metric"]): r["value"] for r in rows if _covers_all(r)}
    cost = [r for r in rows if r["metric"] == "bits_per_byte" and not _covers_all(r)]
    finding = (
        f"{layer} read {streamed.length:,} bytes of {document} in one go, at "
        f"{overall['bits_per_byte']:.3f} bits per byte."
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
    """Draw bits per byte against the context, which doubles from point to point."""

    def draw(axes: Axes) -> None:
        ends = [_ends(row)[1] for row in rows]
        axes.plot(ends, [row["value"] for row in rows], **series(0))  # type: ignore[arg-type]
        axes.set_xscale("log", base=2)
        shown = ends[:: 1 + len(ends) // 7]
        ticks(axes, shown, [short_count(end) for end in shown])
        axes.set_xlabel("bytes read, up to (log scale)")
        axes.set_ylabel("bits per byte")

    return draw_figure(draw, "cost", "Bits per byte against the context")


def surprise_curve(curve: Curve, read_before: int) -> str:
    """Draw surprise per token, in means over windows, against position in the
    document.
    """

    def draw(axes: Axes) -> None:
        means = curve.means
        places = [read_before + (i + 0.5) * curve.window for i in range(len(means))]
        look = series(0) | {"marker": "", "linewidth": 1.3}
        axes.plot(places, means, **look)
        axes.set_ylim(0, 1.06 * (max(means) or 1))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_xlabel("position in the document (bytes)")
        axes.set_ylabel("surprise per token")

    return draw_figure(draw, "surprise", "Surprise against the position")


def _cost_section(rows: Sequence[Row]) -> Section:
    lines = [
        (f"{first:,} to {last:,}", f"{row['value']:.4f}", f"{row['count']:,}")
        for row in rows
        for first, last in [_ends(row)]
    ]
    drawn = figure(
        cost_by_context(rows),
        "Does a longer context help?",
        "Bits per byte by number of bytes of the document read so far.",
    )
    heads = ("bytes read", "bits per byte", "bytes predicted")
    table = Table(columns=[column(head) for head in heads], rows=lines)
    return Section(title="What a byte costs", parts=[grid([drawn]), table])


def _surprise_section(streamed: Streamed, mean: object) -> Section:
    title = "Surprise"
    curve = streamed.surprise
    if curve is None:
        lead = (
            "No layer of this model reported surprise: the model has no neural memory "
            "written by gradient steps, or surprise was not requested."
        )
        return Section(title=title, lead=lead)
    drawn = figure(
        surprise_curve(curve, streamed.carried.read - streamed.length),
        "What did the memory not foresee?",
        f"Means over windows of {curve.window:,} tokens; over all {mean:.4g}.",
    )
    lead = (
        "The loss of the memory at every token before the memory is updated, "
        "||M(k) - v||^2, averaged over heads and layers."
    )
    return Section(title=title, lead=lead, parts=[grid([drawn])])


def _covers_all(row: Row) -> bool:
    setting = row["setting"]
    assert isinstance(setting, dict)
    return "context_to" not in setting


def _ends(row: Row) -> tuple[int, int]:
    """Return the first and the last context that a row covers."""
    setting = row["setting"]
    assert isinstance(setting, dict)
    return setting["context_from"], setting["context_to"]


def short_count(count: int) -> str:
    """Return a number of tokens as people read it: 512, 1k (1,024), 2k (2,000), 2M."""
    for power, unit in ((2, "M"), (1, "k")):
        if count and count % 1024**power == 0:
            return f"{count // 1024**power}{unit}"
    for power, unit in ((2, "M"), (1, "k")):
        if count >= 1000**power:
            return f"{count / 1000**power:.3g}{unit}"
    return str(count)
