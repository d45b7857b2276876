"""Defaults of a task of a comparison."""

from dataclasses import dataclass

from memzoo.data.mqar import MqarConfig
from memzoo.data.needle import NeedleConfig
from memzoo.evals.recall_config import RecallConfig, recall_task_name
from memzoo.evals.recall_task import Measured, PlainRecall, RecallTask, Training
from memzoo.evals.tasks import RECALL_TASKS
from memzoo.evals.tasks.mqar import MqarRecall


@dataclass(frozen=True, kw_only=True)
class Steps(RecallTask):
    axes = ("steps",)

    steps: tuple[int, ...] = (1, 2)
    size: int = 8

    def trainings(self):
        return [Training(task=MqarConfig(num_pairs=n)) for n in self.steps]


def row(value, rate=0.1, steps=1, **setting):
    return {
        "layer": "attention",
        "setting": {"steps": steps, "length": 9, "width": 8, **setting},
        "metric": "accuracy",
        "value": value,
        "seed": 0,
        "learning_rate": rate,
        "parameters": 1234,
        "state_bytes": 1024,
        "checkpoint_step": 300,
        "chance": 0.5 / steps,
    }


def test_a_task_has_a_page_with_its_readings_at_the_rates_of_training():
    rows = [row(0.5, steps=2), row(0.25, 0.2, steps=2), row(1.0)]
    rows += [row(v, r, 2, split="test") for v, r in ((0.125, 0.1), (0.75, 0.2))]
    rows[-1]["setting"]["length"] = rows[-2]["setting"]["length"] = 33
    found = Steps().findings(Measured(rows=rows, curves={}, steps=5, goal=0.9))
    assert found.finding == (
        "Accuracy at steps 2, 9 tokens: attention 50.0% (chance: 25.0%)."
    )
    titles = [section.title for section in found.sections]
    assert titles == ["Accuracy", "Read after training", "Every number"]
    (later,) = found.sections[1].tables
    assert later.title == "steps 2, 33 tokens, width 8, chance 0.250"
    assert [column.short for column in later.columns][3:5] == ["best\nrate", "mean"]
    assert tuple(later.rows[0][3:5]) == ("0.1", "0.125")
    assert [table.title[:7] for table in found.sections[2].tables] == [
        "steps 1",
        "steps 2",
    ]


def test_axes_are_no_part_of_what_a_sweep_means():
    assert Steps().meaning() == {"size": 8}
    for task in RECALL_TASKS.values():
        assert set(task.axes) & set(task().meaning()) == set()
    assert MqarRecall(num_pairs=(2,)).meaning() == MqarRecall().meaning()
    assert MqarRecall(mixture=True).meaning() != MqarRecall().meaning()


def test_the_config_of_any_task_is_a_comparison():
    plain = PlainRecall(task=NeedleConfig(length=32, seed=7))
    (training,) = plain.trainings()
    assert training.task.length == 32 and training.folder == training.label == ""
    assert plain.meaning()["task.length"] == 32 and "task.seed" not in plain.meaning()
    config = RecallConfig(task=plain, layers=("attention",), width=(8,), seeds=(3,))
    assert config.experiment(config.jobs()[0]).task == NeedleConfig(length=32, seed=3)
    assert plain.described(config).rows == "sequences of 32 tokens"
    assert config.meaning()["task"] == recall_task_name(plain) == "needle"
    assert recall_task_name(MqarRecall()) == "mqar"
