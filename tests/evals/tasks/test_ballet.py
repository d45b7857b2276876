"""Ballet in a comparison: what is trained, read and shown."""

import pytest

from memzoo.data.ballet import BalletConfig
from memzoo.errors import MemzooError
from memzoo.evals.recall_config import RecallConfig
from memzoo.evals.recall_task import Measured
from memzoo.evals.tasks.ballet import BalletRecall


def ballet(**fields):
    return RecallConfig(
        task=BalletRecall(**fields),
        layers=("attention",),
        width=(8,),
        seeds=(5,),
        learning_rates=(1e-2,),
    )


def test_it_is_trained_at_4_dancers_and_read_at_8_with_a_longer_delay():
    config = ballet()
    (job,) = config.jobs()
    assert config.experiment(job).task == BalletConfig(num_dancers=(4,), seed=5)
    assert config.settings(job) == [
        {"num_dancers": 4, "delay": 16, "length": 134},
        {"num_dancers": 4, "delay": 16, "length": 134, "split": "test"},
        {"num_dancers": 8, "delay": 16, "length": 266, "split": "test"},
        {"num_dancers": 4, "delay": 48, "length": 262, "split": "test"},
        {"num_dancers": 8, "delay": 48, "length": 522, "split": "test"},
    ]
    assert config.task.described(config) == (
        "trained on 4 dancers with delay 16 and dances of 16 moves",
        ["Read with 4 and 8 dancers and delays of 16 and 48, on 256 test rows each."],
    )


def test_every_field_of_the_rows_reaches_them():
    fields = {"dance_length": 5, "answer": "dance", "delay": 2}
    config = ballet(num_dancers=(2, 4), **fields)
    (training,) = config.task.trainings()
    assert training.task == BalletConfig(num_dancers=(2, 4), **fields)
    assert config.meaning()["dance_length"] == 5


def row(value, dancers, delay, **setting):
    setting = {"num_dancers": dancers, "delay": delay, "width": 8, **setting}
    return {
        "layer": "attention",
        "setting": setting | {"length": dancers * (17 + delay) + 2},
        "metric": "accuracy",
        "value": value,
        "learning_rate": 0.1,
        "seed": 0,
        "parameters": 10,
        "state_bytes": 2048,
        "chance": 1 / dancers,
        "checkpoint_step": 5,
    }


def test_the_page_shows_what_was_trained_and_what_was_read():
    rows = [row(0.9, 4, 16), row(0.3, 8, 48, split="test")]
    measured = Measured(rows=rows, curves={}, steps=5, goal=0.9)
    found = BalletRecall().findings(measured)
    assert found.finding == (
        "Accuracy at 4 dancers, delay 16, 134 tokens: attention 90.0% (chance: 25.0%)."
    )
    titles = ["Accuracy", "Read after training", "Every number", "How to read this"]
    assert [section.title for section in found.sections] == titles
    assert "8 dancers, delay 48, 522 tokens" in found.sections[1].body
    assert "HCAM" in found.sections[-1].body


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_dancers": ()}, "num_dancers is empty; give at least one"),
        ({"read_dancers": (4, 9)}, "num_dancers is 9; give 2 to 8"),
        ({"read_delays": (-1,)}, "delay is -1; give 0 to"),
        ({"ballet_examples": 0}, "ballet_examples is 0; give 1 or more"),
    ],
)
def test_what_does_not_fit_is_refused(fields, message):
    with pytest.raises(MemzooError, match=f"^{message}") as refusal:
        BalletRecall(**fields)
    assert "\n" not in str(refusal.value)
