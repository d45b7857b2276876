"""Recall by setting, worked out by hand."""

import numpy as np

from memzoo.evals.recall import recall
from memzoo.evals.score import Scores


def test_accuracy_by_query_and_by_sequence():
    weights = np.array([[1, 1, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0]], np.float32)
    correct = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 0], [1, 1, 1]], bool)
    nats = np.arange(12, dtype=np.float32).reshape(4, 3)
    blank = np.zeros((4, 3), np.int32)
    rows = recall(Scores(nats, correct, weights, blank), length=16)
    got = {
        (row["setting"]["num_pairs"], row["metric"]): (row["value"], row["count"])
        for row in rows
    }
    assert got == {
        (2, "accuracy"): (3 / 4, 4),
        (2, "sequence_accuracy"): (1 / 2, 2),
        (2, "loss"): ((0 + 1 + 3 + 4) / 4, 4),
        (3, "accuracy"): (1 / 3, 3),
        (3, "sequence_accuracy"): (0.0, 1),
        (3, "loss"): (7.0, 3),
    }
    assert all(row["setting"]["length"] == 16 for row in rows)
