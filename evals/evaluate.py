"""Evaluate a model on a task: one call for every task."""

from dataclasses import dataclass

from ..data import TaskConfig
from ..data.pipeline import Pipeline
from ..data.task import Split
from .perplexity import perplexity
from .recall import Row, recall
from .score import Model, score


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a model reached on a task.

    Attributes:
        accuracy: share of targets that are the most probable token.
        loss: nats a target.
        rows: the same by setting: objects with `setting`, `metric`, `value`, `count`.
    """

    accuracy: float
    loss: float
    rows: list[Row]

    def value(self, metric: str, **setting: object) -> float:
        """The number of one setting.

        Raises:
            KeyError: there is no such row, or more than one.
        """
        found = [
            row["value"]
            for row in self.rows
            if row["metric"] == metric and _agrees(row["setting"], setting)
        ]
        if len(found) != 1:
            raise KeyError(f"{len(found)} rows for {metric} at {setting}")
        return float(found[0])  # pyright: ignore[reportArgumentType]


def evaluate(
    model: Model,
    task_config: TaskConfig,
    *,
    split: Split = "validation",
    examples: int,
    batch_size: int,
) -> Evaluation:
    """Numbers of the model on the first `examples` rows of a split.

    Equal parameters give equal numbers, bit for bit: a reloaded model evaluates as it
    did in memory. A task that asks for something it said before (`chance` is known) is
    measured by recall, one that goes on (`chance` is None) by bits per byte.

    Args:
        model: a language model; it is not changed.
        task_config: the task.
        split: which part of it.
        examples: rows; no more than an epoch is read.
        batch_size: rows computed at once.

    Raises:
        ValueError: a number is below 1.
        DataError: the data is not there.
    """
    if examples < 1:
        raise ValueError(f"examples is {examples}; give a number above 0")
    task = task_config.build(split)
    rows_there = min(examples, len(task))
    size = min(batch_size, rows_there)
    with Pipeline(task_config, split, size, num_rows=rows_there) as batches:
        scores = score(model, batches)
    if task_config.chance is None:
        rows = perplexity(scores, length=task_config.length)
    else:
        rows = recall(scores, [task.setting(i) for i in range(rows_there)])
    return Evaluation(
        accuracy=scores.mean(scores.correct), loss=scores.mean(scores.nats), rows=rows
    )


def _agrees(setting: object, wanted: dict[str, object]) -> bool:
    assert isinstance(setting, dict)
    return all(setting.get(name) == value for name, value in wanted.items())
