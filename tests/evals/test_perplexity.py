"""Bits per byte by context, worked out by hand."""

import math

import numpy as np
import pytest

from memzoo.evals.perplexity import contexts, perplexity
from memzoo.evals.score import Scores


def test_contexts_are_powers_of_two_up_to_the_length():
    assert contexts(8) == [(1, 8)]
    assert contexts(9) == [(1, 8), (9, 9)]
    assert contexts(64) == [(1, 8), (9, 16), (17, 32), (33, 64)]


def test_marks_cost_bits_but_are_no_bytes():
    nats = np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]], np.float32)
    correct = np.array([[1, 0, 0], [1, 1, 1]], bool)
    weights = np.array([[1, 1, 1], [1, 1, 0]], np.float32)
    context = np.array([[1, 8, 9], [9, 9, 9]], np.int32)
    byte_counts = np.array([[1, 1, 1], [1, 0, 1]])
    scores = Scores(nats, correct, weights, np.zeros((2, 3), np.int32), context)
    got = {
        (row["metric"], row["setting"].get("context_from")): row["value"]
        for row in perplexity(scores, byte_counts, length=9)
    }
    bit = math.log(2)
    assert got == pytest.approx(
        {
            ("bits_per_byte", None): 31 / bit / 4,
            ("accuracy", None): 3 / 5,
            ("bits_per_byte", 1): 3 / bit / 2,
            ("accuracy", 1): 1 / 2,
            ("bits_per_byte", 9): 28 / bit / 2,
            ("accuracy", 9): 2 / 3,
        }
    )


def test_a_context_with_no_text_has_no_bits_per_byte():
    blank = np.ones((1, 2), np.int32)
    weights = np.array([[0, 0]], np.float32)
    scores = Scores(weights, weights > 0, weights, blank, blank)
    assert perplexity(scores, blank, length=2) == []
    asked = scores._replace(weights=weights + 1)
    metrics = {row["metric"] for row in perplexity(asked, 0 * blank, length=2)}
    assert metrics == {"accuracy"}
