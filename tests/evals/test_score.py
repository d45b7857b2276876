"""Scores against a plain loop."""

import numpy as np
import pytest

from memzoo.data.batch import Batch
from memzoo.data.mqar import MqarConfig
from memzoo.evals import score as module
from memzoo.evals.score import score


def dense_rows(rows=5, time=7, vocab_size=11):
    rng = np.random.default_rng(1)
    reset = np.zeros((rows, time), bool)
    reset[1, 3] = reset[2, 0] = True
    return Batch(
        tokens=rng.integers(0, vocab_size, (rows, time)).astype(np.int32),
        targets=rng.integers(0, vocab_size, (rows, time)).astype(np.int32),
        target_positions=None,
        target_weights=np.ones((rows, time), np.float32),
        reset=reset,
    )


def in_batches(rows, *sizes):
    ends = np.cumsum(sizes)
    return [
        Batch(*(None if field is None else field[end - size : end] for field in rows))
        for size, end in zip(sizes, ends, strict=True)
    ]


def by_hand(table, token, target):
    logits = table[token].astype(np.float64)
    return np.log(np.sum(np.exp(logits))) - logits[target], np.argmax(logits) == target


def test_every_target_is_scored_as_a_loop_would(bigram):
    rows = dense_rows()
    model = bigram(11)
    scores = score(model, in_batches(rows, 3, 2))
    table = np.asarray(model.table[...])
    for i, j in np.ndindex(5, 7):
        nats, correct = by_hand(table, rows.tokens[i, j], rows.targets[i, j])
        assert scores.nats[i, j] == pytest.approx(nats, rel=1e-5)
        assert scores.correct[i, j] == correct


def test_context_is_counted_from_the_start_of_the_document(bigram):
    scores = score(bigram(11), in_batches(dense_rows(), 3))
    assert scores.context.tolist() == [
        [1, 2, 3, 4, 5, 6, 7],
        [1, 2, 3, 1, 2, 3, 4],
        [1, 2, 3, 4, 5, 6, 7],
    ]


def test_targets_at_positions_are_scored_there(bigram):
    config = MqarConfig(vocab_size=64, length=16, num_pairs=(2, 4))
    batch = config.build("validation").examples(np.arange(6))
    model = bigram(64)
    scores = score(model, [batch])
    table = np.asarray(model.table[...])
    for i, j in np.argwhere(batch.target_weights > 0):
        position = batch.target_positions[i, j]
        nats, correct = by_hand(table, batch.tokens[i, position], batch.targets[i, j])
        assert scores.nats[i, j] == pytest.approx(nats, rel=1e-5)
        assert scores.correct[i, j] == correct
        assert scores.context[i, j] == position + 1
    assert scores.weights.sum() == 3 * 2 + 3 * 4


def test_columns_at_a_time_change_nothing(bigram, monkeypatch):
    rows = dense_rows()
    whole = score(bigram(11), [rows])
    module._score.clear_cache()
    monkeypatch.setattr(module, "_TARGETS_AT_ONCE", 15)
    parts = score(bigram(11), [rows])
    module._score.clear_cache()
    np.testing.assert_array_equal(whole.correct, parts.correct)
    np.testing.assert_allclose(whole.nats, parts.nats, rtol=1e-6)


def test_one_compilation_serves_every_model_of_a_shape(bigram):
    module._score.clear_cache()
    for seed in range(3):
        score(bigram(11, seed), in_batches(dense_rows(), 2, 2))
    assert module._score._cache_size() == 1


def test_no_batches_are_refused(bigram):
    with pytest.raises(ValueError, match="no batch to score"):
        score(bigram(11), [])
