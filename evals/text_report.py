"""Page section about a model on text."""

from collections.abc import Mapping, Sequence

from .figures import by_context
from .number_text import byte_text, percent_text
from .page import Section, figure, grid
from .report import legend
from .summary import ResultRow
from .table import LAYER, Name, Table, column


def text_section(rows: Sequence[ResultRow], *, name: str) -> Section:
    """Return bits per byte and accuracy on text, over all and by length of the context.

    Args:
        rows: as in results.json, with the metrics of `evals.perplexity`.
        name: name of the text, plain text.
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
    heads = ("parameters", "state", "bits per byte", "next byte right")
    table = Table(
        columns=[LAYER, *map(column, heads)],
        rows=[
            (
                Name(layer, numbers[layer]),
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
        parts=[table, f"<br>{key}", grid(_text_figures(lines, numbers))],
    )


def _text_figures(
    lines: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]],
    numbers: Mapping[str, int],
) -> list[str]:
    """Draw every metric of text that was measured by context."""
    return [
        figure(
            by_context(lines[metric], numbers, name=metric, label=label, share=share),
            title,
            caption,
        )
        for metric, label, share, title, caption in (
            (
                "bits_per_byte",
                "bits per byte",
                False,
                "Does it use its context?",
                "Bits per byte by bytes of the document read so far. Lower is better.",
            ),
            (
                "accuracy",
                "accuracy (share of bytes)",
                True,
                "How often is the next byte right?",
                "Share of bytes that the model predicted correctly, by context.",
            ),
        )
        if metric in lines
    ]
