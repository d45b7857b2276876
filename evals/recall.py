"""Accuracy of recall by setting."""

from collections.abc import Mapping, Sequence

import numpy as np

from .score import Scores

Row = dict[str, object]


def recall(scores: Scores, settings: Sequence[Mapping[str, float | str]]) -> list[Row]:
    """Return accuracy by setting: per query, and per sequence (every query right).

    Args:
        scores: every target of the rows that were read.
        settings: setting of each row; rows with equal settings are measured together.

    Returns:
        Rows with `setting`, `metric` (`accuracy`, `sequence_accuracy` or `loss`),
            `value`, and `count`, the number of queries or sequences in the value.
    """
    asked = scores.weights > 0
    groups: dict[tuple[tuple[str, float | str], ...], list[int]] = {}
    for index in map(int, np.flatnonzero(asked.any(axis=1))):
        groups.setdefault(tuple(settings[index].items()), []).append(index)
    rows: list[Row] = []
    for setting, chosen in sorted(groups.items()):
        part = Scores(*(a[chosen] for a in scores))
        whole = np.all(part.correct | ~asked[chosen], axis=1)
        queries, sequences = int(asked[chosen].sum()), len(chosen)
        for metric, value, count in (
            ("accuracy", part.mean(part.correct), queries),
            ("sequence_accuracy", float(np.mean(whole)), sequences),
            ("loss", part.mean(part.nats), queries),
        ):
            rows.append(
                {
                    "setting": dict(setting),
                    "metric": metric,
                    "value": value,
                    "count": count,
                }
            )
    return rows
