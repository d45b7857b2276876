"""Recall: of what was asked, how much came back?"""

import numpy as np

from .score import Scores

Row = dict[str, object]


def recall(scores: Scores, *, length: int) -> list[Row]:
    """Accuracy by setting: per query, and per sequence (every query of it right).

    A setting is the number of pairs that a sequence asks for and the sequence's length.

    Args:
        scores: every target of the rows that were read.
        length: tokens a row.

    Returns:
        Rows with `setting`, `metric` (`accuracy`, `sequence_accuracy` or `loss`),
        `value`, and `count`, the number of queries or sequences behind the value.
    """
    asked = scores.weights > 0
    pairs = asked.sum(axis=1)
    rows: list[Row] = []
    for num_pairs in np.unique(pairs[pairs > 0]):
        chosen = pairs == num_pairs
        part = Scores(*(a[chosen] for a in scores))
        whole = np.all(part.correct | ~asked[chosen], axis=1)
        queries, sequences = int(asked[chosen].sum()), int(chosen.sum())
        setting = {"num_pairs": int(num_pairs), "length": length}
        for metric, value, count in (
            ("accuracy", part.mean(part.correct), queries),
            ("sequence_accuracy", float(np.mean(whole)), sequences),
            ("loss", part.mean(part.nats), queries),
        ):
            rows.append(
                {"setting": setting, "metric": metric, "value": value, "count": count}
            )
    return rows
