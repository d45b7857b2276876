"""Pairs in a comparison: what is trained, read and shown."""

import dataclasses

import pytest

from memzoo.evals.recall_config import RecallConfig
from memzoo.evals.recall_task import Measured
from memzoo.evals.tasks.mqar import MqarRecall

SMALL = MqarRecall(num_pairs=(2, 4), length=16, vocab_size=32)


def config(*layers, task=SMALL, **fields):
    small = {"width": (8,), "seeds": (0,), "learning_rates": (1e-2,)}
    return RecallConfig(task=task, layers=layers, **small, **fields)


def test_sequences_can_grow_with_their_pairs():
    task = MqarRecall(num_pairs=(2, 4), tokens_per_pair=6, vocab_size=32)
    sweep = config("titans_mag", task=task)
    experiments = [sweep.experiment(job) for job in sweep.jobs()]
    assert [each.task.length for each in experiments] == [12, 24]
    windows = [e.model.pattern[0].layers[0].attention.window for e in experiments]
    assert windows == [3, 6]
    assert sweep.meaning()["tokens_per_pair"] == 6


def test_a_mixture_is_one_training_on_all_pairs():
    (training,) = dataclasses.replace(SMALL, mixture=True).trainings()
    assert training.task.settings == (2, 4)
    assert (training.folder, training.label) == ("pairs-2-4", "2, 4 pairs")
    assert [each.folder for each in SMALL.trainings()] == ["pairs-2", "pairs-4"]


def test_what_is_read_after_training_is_foreseen():
    task = dataclasses.replace(SMALL, num_pairs=(2,), read_again=(3,))
    sweep = config("attention", task=task)
    assert sweep.settings(sweep.jobs()[0]) == [
        {"num_pairs": 2, "length": 16},
        {"num_pairs": 2, "length": 16, "split": "test"},
        {"num_pairs": 2, "length": 48, "repeat_context": 3, "split": "test"},
    ]
    rows = task.described(sweep)
    assert rows.sentences[-1] == (
        "After training, the models read them 3 times too, question included, on test "
        "rows."
    )


def test_where_tokens_go_is_asked_of_mixtures_on_plain_rows():
    sweep = config("attention", "mixture_of_memories", repeat_context=(1, 2))
    asked = {
        (job.layer, job.repeat_context): len(
            sweep.task.probes(sweep.experiment(job), sweep)
        )
        for job in sweep.jobs()
    }
    assert asked == {
        ("attention", 1): 0,
        ("attention", 2): 0,
        ("mixture_of_memories", 1): 1,
        ("mixture_of_memories", 2): 0,
    }


def row(value=0.5, metric="accuracy", pairs=16, **setting):
    return {
        "layer": "attention",
        "setting": {"num_pairs": pairs, "length": 64, "width": 8, **setting},
        "metric": metric,
        "value": value,
        "seed": 0,
        "learning_rate": 0.1,
        "parameters": 1234,
        "state_bytes": 1024,
        "checkpoint_step": 300,
        "chance": 1 / pairs,
    }


@pytest.mark.parametrize(
    ("rows", "finding", "titles"),
    [
        (
            [row(), row(pairs=4)],
            "Recall of 16 key-value pairs in 64 tokens: attention 50.0% (chance: 6.2%",
            ["Accuracy", "Every number", "How to read this"],
        ),
        (
            [row(num_queries=4), row(num_queries=4, repeat_context=2, length=128)],
            "Recall of 4 of 16 key-value pairs in 64 tokens",
            ["Accuracy", "Read twice", "Every number", "How to read this"],
        ),
    ],
)
def test_the_page_of_pairs(rows, finding, titles):
    found = SMALL.findings(Measured(rows=rows, curves={}, steps=5, goal=0.9))
    assert found.finding.startswith(finding)
    assert [section.title for section in found.sections] == titles
    several = "How many pairs fit?" in found.sections[0].body
    assert several == (len({r["setting"]["num_pairs"] for r in rows}) > 1)
