"""Page section about where mixtures send their tokens."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from .drawing import draw_figure, ticks
from .figures import share_fields
from .page import Section, figure, grid, notes
from .routing import ANSWERED, CHANCE, ENTROPY, KINDS, ROUTED
from .summary import Cell, ResultRow, hardest, summarise, widest

_NOTES = (
    "A square shows the share of the choices of all tokens of a kind that chose a "
    "memory; a row sums to 100. Memories are interchangeable, so the figure shows the "
    "training with the first seed instead of a mean over seeds.",
    "Answered by the writer: share of a query's read weight on memories that the token "
    "of its value wrote. By chance: the same share if queries and values were routed "
    "independently of each other.",
)


def routing_sections(
    rows: Sequence[ResultRow], numbers: Mapping[str, int]
) -> list[Section]:
    """Return which memory answers, one figure per block; no section without a mixture.

    Args:
        rows: as in results.json.
        numbers: series number of every layer.
    """
    if not any(row["metric"] == ROUTED for row in rows):
        return []
    cells = widest(hardest(summarise(rows)))
    parts = [
        part for cell in cells for part in _of_layer(cell, rows, numbers[cell.layer])
    ]
    if not parts:
        return []
    return [
        Section(
            title="Which memory answers?",
            lead=f"Memories that tokens choose, {cells[0].text}.",
            parts=[grid(parts), notes(_NOTES)],
        )
    ]


def _of_layer(cell: Cell, rows: Sequence[ResultRow], number: int) -> list[str]:
    """Return a figure for every mixture of the layer's training with the first seed."""
    seed = cell.best[0].seed
    setting = dict(cell.setting)
    own = [
        row
        for row in rows
        if row["layer"] == cell.layer
        and (row["learning_rate"], row["seed"]) == (cell.learning_rate, seed)
        and setting.items() <= row["setting"].items()
        and "block" in row["setting"]
    ]
    blocks = sorted({row["setting"]["block"] for row in own})
    return [
        _figure(
            [row for row in own if row["setting"]["block"] == block],
            f"{cell.layer}, block {block + 1}",
            number,
        )
        for block in blocks
    ]


def _figure(rows: Sequence[ResultRow], title: str, number: int) -> str:
    shares = {
        (row["setting"]["kind"], row["setting"]["memory"]): row["value"]
        for row in rows
        if row["metric"] == ROUTED
    }
    (entropy,) = (row["value"] for row in rows if row["metric"] == ENTROPY)
    (answered,) = (row["value"] for row in rows if row["metric"] == ANSWERED)
    # Older results lack this metric.
    chance = [row["value"] for row in rows if row["metric"] == CHANCE]
    caption = (
        f"Entropy of the routing {entropy:.2f} nats; {answered:.0%} answered by the "
        f"writer{''.join(f', {value:.0%} by chance' for value in chance)}."
    )
    drawn = routing_map(shares, (*KINDS, "all"), title, number)
    return figure(drawn, title, caption)


def routing_map(
    values: Mapping[tuple[str, int], float],
    kinds: Sequence[str],
    title: str,
    number: int,
) -> str:
    """Draw a square for every kind of token and memory, darker for larger shares.

    Args:
        values: a share for every (kind, memory).
        kinds: kinds of tokens, from top to bottom.
        title: layer and block of the values.
        number: number of its series.
    """
    memories = sorted({memory for _, memory in values})
    shares = [[values.get((kind, memory)) for memory in memories] for kind in kinds]

    def draw(axes: Axes) -> None:
        share_fields(axes, shares, number)
        ticks(axes, range(len(memories)), [str(m + 1) for m in memories])
        axes.set_yticks(range(len(kinds)), list(kinds))
        axes.set_xlabel("memory")

    name = "routing" + "".join(letter for letter in title if letter.isalnum())
    said = f"Memories that tokens choose, {title}"
    return draw_figure(draw, name, said, width=3.2, height=2.3)
