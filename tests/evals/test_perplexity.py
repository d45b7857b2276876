"""Bits per byte by context, computed by hand."""

import math

import numpy as np
import pytest

from memzoo.evals.perplexity import contexts, perplexity
from memzoo.evals.score import Scores


def test_contexts_are_powers_of_two_up_to_the_length():
    assert contexts(8) == [(1, 8)]
    assert contexts(9) == [(1, 8), (9, 9)]
    assert contexts(64) == [(1, 8), (9, 16), (17, 32), (33, 64)]


def test_bits_and_accuracy_by_context():
    nats = np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]], np.float32)
    correct = np.array([[1, 0, 0], [1, 1, 1]], bool)
    weights = np.array([[1, 1, 1], [1, 1, 0]], np.float32)
    context = np.array([[1, 8, 9], [9, 9, 9]], np.int32)
    rows = perplexity(Scores(nats, correct, weights, context), length=9)
    got = {
        (row["metric"], row["setting"].get("context_from")): row["value"]
        for row in rows
    }
    bit = math.log(2)
    assert got == pytest.approx(
        {
            ("bits_per_byte", None): 31 / bit / 5,
            ("accuracy", None): 3 / 5,
            ("bits_per_byte", 1): 3 / bit / 2,
            ("accuracy", 1): 1 / 2,
            ("bits_per_byte", 9): 28 / bit / 3,
            ("accuracy", 9): 2 / 3,
        }
    )


def test_a_context_that_nothing_is_asked_at_has_no_row():
    context = np.array([[1, 2]], np.int32)
    asked = np.array([[1, 1]], np.float32)
    rows = perplexity(Scores(asked, asked > 0, asked, context), length=64)
    froms = {row["setting"].get("context_from") for row in rows}
    assert froms == {None, 1}
