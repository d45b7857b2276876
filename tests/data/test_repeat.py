"""Rows that are read more than once."""

import dataclasses

import numpy as np
import pytest

from memzoo.data import TASKS
from memzoo.data.batch import Batch
from memzoo.data.mqar import MqarConfig
from memzoo.data.needle import NeedleConfig
from memzoo.data.pipeline import Pipeline
from memzoo.data.repeat import RepeatConfig, repeat_context, repeat_rows, task_label
from memzoo.data.set_disjointness import SetDisjointnessConfig, solve
from memzoo.data.task import fingerprint
from memzoo.data.text import TextConfig

# Two rows of 5 tokens, with contexts of 2 and 4.
ROWS = Batch(
    tokens=np.array([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]], np.int32),
    targets=np.array([[30, 50], [100, 0]], np.int32),
    target_positions=np.array([[2, 4], [4, 0]], np.int32),
    target_weights=np.array([[1, 1], [1, 0]], np.float32),
    context=np.array([2, 4], np.int32),
)
DENSE = ROWS._replace(
    targets=np.array([[0, 0, 30, 0, 50], [0, 0, 0, 0, 100]], np.int32),
    target_positions=None,
    target_weights=np.array([[0, 0, 1, 0, 1], [0, 0, 0, 0, 1]], np.float32),
)


class Silent:
    """A user's task that does not define its context."""

    task_name, vocab_size, length, chance = "silent", 11, 5, 0.5


def asked(batch):
    """Return (position, target) of every question of every row."""
    positions = batch.target_positions
    if positions is None:
        positions = np.broadcast_to(
            np.arange(batch.tokens.shape[1]), batch.targets.shape
        )
    return [
        [(int(p), int(t)) for p, t, w in zip(*row, strict=True) if w]
        for row in zip(positions, batch.targets, batch.target_weights, strict=True)
    ]


@pytest.mark.parametrize("batch", [ROWS, DENSE], ids=["sparse", "dense"])
def test_context_and_question_are_read_again(batch):
    found = repeat_rows(batch, times=3, question=True, length=15)
    np.testing.assert_array_equal(found.tokens, np.tile(ROWS.tokens, (1, 3)))
    assert asked(found) == [[(12, 30), (14, 50)], [(14, 100)]]
    np.testing.assert_array_equal(found.context, [12, 14])
    assert found.valid is None


@pytest.mark.parametrize("batch", [ROWS, DENSE], ids=["sparse", "dense"])
def test_the_context_alone_is_read_again(batch):
    found = repeat_rows(batch, times=2, question=False, length=9)
    np.testing.assert_array_equal(
        found.tokens, [[1, 2, 1, 2, 3, 4, 5, 0, 0], [6, 7, 8, 9, 6, 7, 8, 9, 10]]
    )
    np.testing.assert_array_equal(found.valid, np.arange(9) < [[7], [9]])
    assert asked(found) == [[(4, 30), (6, 50)], [(8, 100)]]
    np.testing.assert_array_equal(found.context, [4, 8])


def test_padding_stays_padding():
    valid = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]], bool)
    found = repeat_rows(ROWS._replace(valid=valid), times=2, question=True, length=10)
    np.testing.assert_array_equal(found.valid, np.tile(valid, (1, 2)))


def test_mqar_is_what_it_writes_twice_itself():
    """The pairs are repeated, then the queries follow unchanged."""
    once = MqarConfig(length=16, num_pairs=2, vocab_size=64)
    twice = RepeatConfig(task=once, question=False)
    batch = once.build("train").examples(np.arange(20))
    found = twice.build("train").examples(np.arange(20))
    assert found.tokens.shape == (20, twice.length) == (20, 20)
    np.testing.assert_array_equal(found.tokens[:, :4], batch.tokens[:, :4])
    np.testing.assert_array_equal(found.tokens[:, 4:], batch.tokens)
    np.testing.assert_array_equal(found.target_positions, batch.target_positions + 4)
    for row in range(20):
        memory = dict(zip(found.tokens[row, 0:4:2], found.tokens[row, 1:4:2],
                          strict=True))  # fmt: skip
        for place, target in asked(found)[row]:
            assert memory[found.tokens[row, place]] == target


@pytest.mark.parametrize("question", [True, False])
@pytest.mark.parametrize(
    "task",
    [
        MqarConfig(length=16, num_pairs=(1, 2, 3), vocab_size=64),
        SetDisjointnessConfig(sizes=((2, 5), (3, 1)), vocab_size=30),
    ],
    ids=["mqar", "sets"],
)
def test_every_task_keeps_its_questions_and_its_last_reading(task, question):
    config = RepeatConfig(task=task, times=3, question=question)
    plain = task.build("validation").examples(np.arange(12))
    batch = config.build("validation").examples(np.arange(12))
    assert batch.tokens.shape == (12, config.length)
    assert batch.context.max() == config.context_length
    for row in range(12):
        shift = batch.context[row] - plain.context[row]
        length = task.length if plain.valid is None else plain.valid[row].sum()
        np.testing.assert_array_equal(
            batch.tokens[row, shift : shift + length], plain.tokens[row, :length]
        )
        old, new = asked(plain)[row], asked(batch)[row]
        assert new == [(place + shift, target) for place, target in old]
        assert all(batch.valid is None or batch.valid[row, place] for place, _ in new)


def test_sets_read_twice_have_the_same_answer():
    config = RepeatConfig(task=SetDisjointnessConfig())
    batch = config.build("test").examples(np.arange(20))
    np.testing.assert_array_equal(solve(batch.tokens), batch.targets[:, 0])


def test_the_pipeline_hands_out_repeated_rows():
    config = RepeatConfig(task=NeedleConfig(length=64))
    with Pipeline(config, "train", 4) as batches:
        batch = next(batches)
    assert batch.tokens.shape == (4, 128) == (4, config.length)
    np.testing.assert_array_equal(batch.tokens[:, :64], batch.tokens[:, 64:])
    assert batch.target_positions.min() >= 64


def test_what_a_repeated_task_says_of_itself():
    task = MqarConfig(length=16, num_pairs=(1, 2), vocab_size=64)
    config = RepeatConfig(task=task, times=3)
    assert (config.vocab_size, config.chance) == (64, task.chance)
    assert len(config.build("train")) == len(task.build("train"))
    shared = {"length": 48, "repeat_context": 3}
    assert config.kinds == ({"num_pairs": 1} | shared, {"num_pairs": 2} | shared)
    found = fingerprint(config)
    assert found["task"] == "repeat"
    assert found["task.task"] == "mqar"
    assert found["times"] == 3
    changed = dataclasses.replace(config, task=dataclasses.replace(task, seed=1))
    other = fingerprint(changed)
    assert [name for name in found if found[name] != other[name]] == ["task.seed"]
    needle = NeedleConfig(length=64)
    again = RepeatConfig(task=needle, question=False)
    assert again.length == 64 + needle.context_length
    assert again.context_length == 2 * needle.context_length
    own = RepeatConfig()
    object.__setattr__(own, "task", Silent())
    assert (own.length, own.context_length) == (10, None)
    assert TASKS["repeat"] is RepeatConfig
    assert task_label(config) == task_label(task) == "mqar"


def test_a_task_is_repeated_once_over():
    task = MqarConfig()
    twice = repeat_context(task, 2)
    assert twice == RepeatConfig(task=task)
    assert repeat_context(twice, 3, False) == RepeatConfig(
        task=task, times=3, question=False
    )
    assert repeat_context(twice, 1) == repeat_context(task, 1) == task


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"times": 0}, "times is 0; give 1 or more"),
        ({"task": RepeatConfig()}, "task is repeated already; set its times instead"),
        (
            {"task": TextConfig()},
            "task text has no questions about a context; choose a",
        ),
        (
            {"task": Silent(), "question": False},
            "task silent does not define its context; set question to True",
        ),
    ],
)
def test_what_cannot_be_repeated_is_refused(fields, message):
    config = RepeatConfig()
    for name, value in fields.items():  # past the type checker of the tests
        object.__setattr__(config, name, value)
    with pytest.raises(ValueError, match=message):
        config.__post_init__()


def test_rows_that_cannot_be_repeated_are_refused():
    packed = ROWS._replace(reset=np.zeros((2, 5), bool))
    with pytest.raises(ValueError, match="rows of several documents cannot be repeat"):
        repeat_rows(packed, times=2, question=True, length=10)
    whole = ROWS._replace(context=None)
    with pytest.raises(ValueError, match="have no context to repeat; set question to"):
        repeat_rows(whole, times=2, question=False, length=9)
    assert repeat_rows(whole, times=2, question=True, length=10).context is None
