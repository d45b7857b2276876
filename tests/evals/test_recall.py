"""Recall by setting, computed by hand."""

import numpy as np

from memzoo.evals.recall import recall
from memzoo.evals.score import Scores


def test_accuracy_by_query_and_by_sequence():
    weights = np.array([[1, 1, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0]], np.float32)
    correct = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 0], [1, 1, 1]], bool)
    nats = np.arange(12, dtype=np.float32).reshape(4, 3)
    blank = np.zeros((4, 3), np.int32)
    settings = [{"num_pairs": n, "length": 16} for n in (2, 2, 3, 5)]
    rows = recall(Scores(nats, correct, weights, blank), settings)
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


def test_settings_stand_in_order_and_those_without_queries_are_left_out():
    ones = np.ones((4, 1), np.float32)
    weights = np.array([[1], [1], [1], [0]], np.float32)
    scores = Scores(ones, ones > 0, weights, ones.astype(np.int32))
    settings = [{"depth": d} for d in (1.0, 0.0, 1.0, 0.5)]
    rows = recall(scores, settings)
    found = [(row["setting"]["depth"], row["count"]) for row in rows[::3]]
    assert found == [(0.0, 1), (1.0, 2)]
