"""A model at other lengths."""

import dataclasses

import numpy as np
import pytest

from memzoo.data.mqar import MqarConfig
from memzoo.data.needle import NeedleConfig
from memzoo.data.prefix import PrefixConfig
from memzoo.data.repeat import RepeatConfig
from memzoo.data.set_disjointness import SetDisjointnessConfig
from memzoo.errors import MemzooError, NonFiniteError
from memzoo.evals import length
from memzoo.evals.evaluate import evaluate
from memzoo.evals.length import at_length, at_sizes, by_length, by_readings
from memzoo.evals.recall_config import RecallConfig
from memzoo.evals.results import sizes

NEEDLE = RecallConfig(
    task="needle", layers=("attention",), length=32, vocab_size=32, width=(8,)
)
EXPERIMENT = NEEDLE.experiment(NEEDLE.jobs()[0])
PAIRS = RecallConfig(
    layers=("attention",), num_pairs=(2,), length=16, vocab_size=64, width=(8,)
)


def read(model, experiment, lengths, **given):
    asked = {"split": "test", "examples": 10, "step": 7} | given
    return by_length(model, experiment, lengths, **asked)


def test_needles_are_read_at_every_length_and_depth(bigram):
    rows = read(bigram(32), EXPERIMENT, (32, 64), depths=(0.0, 1.0))
    found = {(row["setting"]["length"], row["setting"]["depth"]) for row in rows}
    assert found == {(32, 0.0), (32, 1.0), (64, 0.0), (64, 1.0)}
    assert {row["checkpoint_step"] for row in rows} == {7}
    assert len(rows) == 3 * 4


def test_state_is_that_of_the_length(bigram):
    rows = read(bigram(32), EXPERIMENT, (32, 64))
    state = {row["setting"]["length"]: row["state_bytes"] for row in rows}
    assert state[32] == sizes(EXPERIMENT)[1]
    assert state[64] > state[32]


def test_other_tasks_are_read_at_their_own_settings(bigram):
    experiment = PAIRS.experiment(PAIRS.jobs()[0])
    rows = read(bigram(64), experiment, (16, 32))
    assert [row["setting"]["length"] for row in rows[::3]] == [16, 32]
    assert {row["setting"]["num_pairs"] for row in rows} == {2}


def test_the_length_that_is_not_finite_is_named(bigram):
    table = np.zeros((64, 64), np.float32)
    table[:, 40] = np.nan
    experiment = PAIRS.experiment(PAIRS.jobs()[0])
    with pytest.raises(NonFiniteError, match=r"^rows of 16 tokens: the loss of the ev"):
        read(bigram(table), experiment, (16, 32))


def test_long_rows_are_computed_a_few_at_a_time(bigram, monkeypatch):
    asked = []

    def stand_in(model, task, *, split, examples, batch_size):
        asked.append((task.length, batch_size))
        return evaluate(model, task, split=split, examples=2, batch_size=2)

    monkeypatch.setattr(length, "evaluate", stand_in)
    monkeypatch.setattr(length, "TOKENS_AT_ONCE", 64)
    read(bigram(32), EXPERIMENT, (32, 64, 128))
    assert asked == [(32, 2), (64, 1), (128, 1)]


def test_a_length_without_rows_is_refused(bigram):
    with pytest.raises(MemzooError, match="no rows of 5 tokens: length is 5; with"):
        read(bigram(32), EXPERIMENT, (5,))


def test_tasks_inside_others_get_the_length():
    needle = RepeatConfig(task=NeedleConfig(length=32, vocab_size=32), times=3)
    there = at_length(dataclasses.replace(EXPERIMENT, task=needle), 48, (0.5,))
    assert there.task.task == NeedleConfig(length=48, depth=(0.5,), vocab_size=32)
    assert there.task.length == 144
    mqar = MqarConfig(length=16, num_pairs=2, vocab_size=32)
    pairs = PrefixConfig(task=mqar, mask_share=0)
    there = at_length(dataclasses.replace(EXPERIMENT, task=pairs), 24)
    assert there.task.task == dataclasses.replace(mqar, length=24)


def test_sets_have_no_length():
    task = SetDisjointnessConfig(vocab_size=32)
    with pytest.raises(ValueError, match="has sizes in place of a length"):
        at_length(dataclasses.replace(EXPERIMENT, task=task), 48)


def test_sets_are_read_at_other_sizes():
    task = PrefixConfig(
        task=RepeatConfig(task=SetDisjointnessConfig(vocab_size=32)), mask_share=0
    )
    there = at_sizes(dataclasses.replace(EXPERIMENT, task=task), ((2, 9), (9, 2)))
    assert there.task.task.task.sizes == ((2, 9), (9, 2))
    assert there.task.length == 28
    with pytest.raises(
        MemzooError, match="no sets of these sizes: needle has no sizes"
    ):
        at_sizes(EXPERIMENT, ((2, 9),))
    with pytest.raises(
        MemzooError, match=r"no sets of .*: sizes holds \(30, 9\); with"
    ):
        at_sizes(dataclasses.replace(EXPERIMENT, task=task), ((30, 9),))


def test_a_model_reads_once_and_again(bigram):
    experiment = PAIRS.experiment(PAIRS.jobs()[0])
    asked = {"question": False, "examples": 4, "step": 7}
    rows = by_readings(bigram(64), experiment, (3,), **asked)
    settings = [row["setting"] for row in rows if row["metric"] == "accuracy"]
    pairs = {"num_pairs": 2, "split": "test"}
    assert settings == [
        pairs | {"length": 16},
        pairs | {"length": 16 + 2 * 4, "repeat_context": 3},
    ]
    # Trained once, so that the state is that of what is read.
    assert rows[0]["state_bytes"] < rows[-1]["state_bytes"]


def test_the_rest_of_the_experiment_stays():
    there = at_length(EXPERIMENT, 64, (0.5,))
    assert (there.task.length, there.task.depths) == (64, (0.5,))
    assert there.model == EXPERIMENT.model
