"""Gist and detail in a comparison: what is trained, read and shown."""

import pytest

from memzoo.data.gist_and_detail import GistAndDetailConfig
from memzoo.errors import MemzooError
from memzoo.evals.recall_config import RecallConfig
from memzoo.evals.recall_task import Measured
from memzoo.evals.tasks.gist_and_detail import GistAndDetailRecall

CHANCES = {"gist": 1 / 4, "detail": 1 / 28}


def test_one_training_is_read_by_kind_of_question_and_number_of_segments():
    fields = {"segment_length": 6, "majority": 4, "words_per_theme": 32}
    config = RecallConfig(
        task=GistAndDetailRecall(num_segments=2, read_segments=(2, 8), **fields),
        layers=("attention",),
        width=(8,),
        seeds=(5,),
        learning_rates=(1e-2,),
    )
    (job,) = config.jobs()
    task = config.experiment(job).task
    assert task == GistAndDetailConfig(num_segments=2, seed=5, **fields)
    kinds = [
        {"question": question, "num_segments": count, "length": 9 * count}
        for count in (2, 2, 8)
        for question in ("gist", "detail")
    ]
    test = [kind | {"split": "test"} for kind in kinds[2:]]
    assert config.settings(job) == [*kinds[:2], *test]
    assert config.task.described(config) == (
        "trained on 2 segments of 6 words, 4 of them from one of 4 themes",
        ["Read with 2 and 8 segments, 256 test rows each."],
    )


def row(value, question, count=4, **setting):
    setting = {"question": question, "num_segments": count, "width": 8, **setting}
    return {
        "layer": "attention",
        "setting": setting | {"length": 11 * count},
        "metric": "accuracy",
        "value": value,
        "learning_rate": 0.1,
        "seed": 0,
        "parameters": 10,
        "state_bytes": 2048,
        "chance": CHANCES[question],
        "checkpoint_step": 5,
    }


def test_the_page_splits_the_kinds_of_questions():
    rows = [
        row(0.9, "gist"),
        row(0.2, "detail"),
        row(0.7, "gist", 8, split="test"),
        row(0.1, "detail", 8, split="test"),
    ]
    measured = Measured(rows=rows, curves={}, steps=5, goal=0.9)
    found = GistAndDetailRecall().findings(measured)
    assert found.finding == (
        "Accuracy at gist questions, 4 segments, 44 tokens: attention 90.0% (chance: "
        "25.0%). Accuracy at detail questions, 4 segments, 44 tokens: attention 20.0% "
        "(chance: 3.6%)."
    )
    titles = ["Accuracy", "Read after training", "Every number", "How to read this"]
    assert [section.title for section in found.sections] == titles
    assert len(found.sections[1].tables) == len(found.sections[2].tables) == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"read_segments": ()}, "read_segments is empty; give at least one"),
        ({"read_segments": (9,)}, "words_per_theme is 40; with num_segments 9 and"),
        ({"majority": 4}, "majority is 4; with segment_length 8 give 5 to 8"),
        ({"segment_examples": 0}, "segment_examples is 0; give 1 or more"),
    ],
)
def test_what_does_not_fit_is_refused(fields, message):
    with pytest.raises(MemzooError, match=f"^{message}") as refusal:
        GistAndDetailRecall(**fields)
    assert "\n" not in str(refusal.value)
