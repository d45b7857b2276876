"""Scores against a plain loop."""

import numpy as np
import pytest

from memzoo.data.batch import Batch
from memzoo.data.mqar import MqarConfig
from memzoo.evals import score as module
from memzoo.evals.score import score


class Rows:
    """A task from given arrays."""

    def __init__(self, **fields):
        self.fields = fields

    def __len__(self):
        return len(self.fields["tokens"])

    def examples(self, indices):
        return Batch(
            **{k: None if v is None else v[indices] for k, v in self.fields.items()}
        )


def dense_rows(rows=5, time=7, vocab_size=11):
    rng = np.random.default_rng(1)
    reset = np.zeros((rows, time), bool)
    reset[1, 3] = reset[2, 0] = True
    return Rows(
        tokens=rng.integers(0, vocab_size, (rows, time)).astype(np.int32),
        targets=rng.integers(0, vocab_size, (rows, time)).astype(np.int32),
        target_positions=None,
        target_weights=np.ones((rows, time), np.float32),
        reset=reset,
        valid=None,
    )


def by_hand(table, token, target):
    logits = table[token].astype(np.float64)
    return np.log(np.sum(np.exp(logits))) - logits[target], np.argmax(logits) == target


def test_every_target_is_scored_as_a_loop_would(bigram):
    task = dense_rows()
    model = bigram(11)
    scores = score(model, task, examples=5, batch_size=2)
    table = np.asarray(model.table[...])
    for i in range(5):
        for j in range(7):
            token, target = task.fields["tokens"][i, j], task.fields["targets"][i, j]
            nats, correct = by_hand(table, token, target)
            assert scores.nats[i, j] == pytest.approx(nats, rel=1e-5)
            assert scores.correct[i, j] == correct


def test_context_is_counted_from_the_start_of_the_document(bigram):
    scores = score(bigram(11), dense_rows(), examples=3, batch_size=3)
    assert scores.context.tolist() == [
        [1, 2, 3, 4, 5, 6, 7],
        [1, 2, 3, 1, 2, 3, 4],
        [1, 2, 3, 4, 5, 6, 7],
    ]


def test_targets_at_positions_are_scored_there(bigram):
    config = MqarConfig(vocab_size=64, length=16, num_pairs=(2, 4))
    task = config.build("validation")
    model = bigram(64)
    scores = score(model, task, examples=6, batch_size=4)
    batch = task.examples(np.arange(6))
    table = np.asarray(model.table[...])
    for i, j in np.argwhere(batch.target_weights > 0):
        position = batch.target_positions[i, j]
        nats, correct = by_hand(table, batch.tokens[i, position], batch.targets[i, j])
        assert scores.nats[i, j] == pytest.approx(nats, rel=1e-5)
        assert scores.correct[i, j] == correct
        assert scores.context[i, j] == position + 1
    assert scores.weights.sum() == 3 * 2 + 3 * 4


def test_the_batch_size_that_divides_nothing_drops_only_what_it_filled_up(bigram):
    task, model = dense_rows(), bigram(11)
    whole = score(model, task, examples=5, batch_size=5)
    parts = score(model, task, examples=5, batch_size=3)
    assert parts.nats.shape == (5, 7)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_no_more_than_an_epoch_is_read(bigram):
    scores = score(bigram(11), dense_rows(), examples=100, batch_size=64)
    assert len(scores.nats) == 5


def test_columns_at_a_time_change_nothing(bigram, monkeypatch):
    task = dense_rows()
    whole = score(bigram(11), task, examples=5, batch_size=5)
    module._score.clear_cache()
    monkeypatch.setattr(module, "_TARGETS_AT_ONCE", 15)
    parts = score(bigram(11), task, examples=5, batch_size=5)
    module._score.clear_cache()
    np.testing.assert_array_equal(whole.correct, parts.correct)
    np.testing.assert_allclose(whole.nats, parts.nats, rtol=1e-6)


def test_one_compilation_serves_every_model_of_a_shape(bigram):
    module._score.clear_cache()
    for seed in range(3):
        score(bigram(11, seed), dense_rows(), examples=5, batch_size=2)
    assert module._score._cache_size() == 1


@pytest.mark.parametrize("name", ["examples", "batch_size"])
def test_a_number_below_one_is_refused(bigram, name):
    numbers = {"examples": 4, "batch_size": 2} | {name: 0}
    with pytest.raises(ValueError, match=f"{name} is 0; give a number above 0"):
        score(bigram(11), dense_rows(), **numbers)


def test_an_empty_split_is_refused(bigram):
    with pytest.raises(ValueError, match="holds no rows"):
        score(bigram(11), Rows(tokens=[]), examples=4, batch_size=2)
