"""The section of a page about where mixtures send their tokens."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from .drawing import draw_figure, ticks
from .figures import share_fields
from .page import Section, figure, grid, notes
from .routing import ANSWERED, CHANCE, ENTROPY, KINDS, ROUTED
from .summary import Cell, ResultRow, hardest, summarise, widest

_NOTES = (
    "A field is the share of the choices of all tokens of a kind that fell on a "
    "memory; a row sums to 100. A memory has no meaning of its own, so one training is "
    "shown, that of the first seed, and not a mean over seeds.",
    "Answered by the writer: how much of the weight of what a query reads lies on "
    "memories that the token of its value wrote. By chance: the same if queries and "
    "values were routed as they are, but without regard to each other.",
)


def routing_sections(
    rows: Sequence[ResultRow], numbers: Mapping[str, int]
) -> list[Section]:
    """Which memory answers, a figure a block; nothing where there is no mixture.

    Args:
        rows: as in results.json.
        numbers: the series of every layer.
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
            lead=f"Memories that tokens are sent to, {cells[0].text}.",
            parts=[grid(parts), notes(_NOTES)],
        )
    ]


def _of_layer(cell: Cell, rows: Sequence[ResultRow], number: int) -> list[str]:
    """A figure for every mixture of the layer's first training."""
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
    # Not in results of before it was counted.
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
    """Draw a square for every kind of token and memory, the fuller the more tokens.

    Args:
        values: a share for every (kind, memory).
        kinds: of tokens, from above.
        title: whose values they are.
        number: of its series.
    """
    memories = sorted({memory for _, memory in values})
    shares = [[values.get((kind, memory)) for memory in memories] for kind in kinds]

    def draw(axes: Axes) -> None:
        share_fields(axes, shares, number)
        ticks(axes, range(len(memories)), [str(m + 1) for m in memories])
        axes.set_yticks(range(len(kinds)), list(kinds))
        axes.set_xlabel("memory")

    name = "routing" + "".join(letter for letter in title if letter.isalnum())
    said = f"Memories that tokens are sent to, {title}"
    return draw_figure(draw, name, said, width=3.2, height=2.3)
