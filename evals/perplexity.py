"""Bits per byte of text, over all targets and by length of the context."""

import math

import numpy as np

from .recall import Row
from .score import Scores


def perplexity(scores: Scores, *, length: int) -> list[Row]:
    """Return bits per byte and accuracy over all targets and by length of the context.

    The first row of each metric covers all contexts and names none. Contexts are
    grouped by powers of two: 1 to 8, 9 to 16, 17 to 32, ... tokens read.

    Args:
        scores: every target of the rows that were read; each is one byte.
        length: tokens per row, the longest possible context.

    Returns:
        Rows with `setting`, `metric` (`bits_per_byte` or `accuracy`), `value` and
            `count`, the number of targets in the value.
    """
    asked = scores.weights > 0
    rows = _rows({"length": length}, scores, asked)
    for first, last in contexts(length):
        chosen = asked & (scores.context >= first) & (scores.context <= last)
        setting = {"length": length, "context_from": first, "context_to": last}
        rows += _rows(setting, scores, chosen)
    return rows


def contexts(length: int) -> list[tuple[int, int]]:
    """Return the groups of context lengths, inclusive: (1, 8), (9, 16), (17, 32),
    ...
    """
    groups, first, last = [], 1, 8
    while first <= length:
        groups.append((first, min(last, length)))
        first, last = last + 1, 2 * last
    return groups


def _rows(
    setting: dict[str, int],
    scores: Scores,
    chosen: np.ndarray,
) -> list[Row]:
    count = int(chosen.sum())
    if count == 0:
        return []
    nats = float(np.mean(scores.nats[chosen], dtype=np.float64))
    values = {
        "bits_per_byte": nats / math.log(2),
        "accuracy": float(np.mean(scores.correct[chosen])),
    }
    return [
        {"setting": setting, "metric": metric, "value": value, "count": count}
        for metric, value in values.items()
    ]
