"""Evaluate a model on a task: one call for every task."""

from dataclasses import dataclass

import numpy as np

from memzoo.errors import InputError, NonFiniteError

from ..data.pipeline import Pipeline
from ..data.task import Config, DataError, Split, Task
from .perplexity import perplexity
from .recall import Row, recall
from .score import Model, score


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Numbers that a model reached on a task.

    Attributes:
        accuracy: share of targets that the model found most probable.
        loss: nats per target.
        rows: results by setting: objects with `setting`, `metric`, `value`, `count`.

    Raises:
        NonFiniteError: a number is not finite.
    """

    accuracy: float
    loss: float
    rows: list[Row]

    def __post_init__(self) -> None:
        values = [self.accuracy, self.loss, *(row["value"] for row in self.rows)]
        if not np.all(np.isfinite(np.array(values, float))):
            raise NonFiniteError(
                "the loss of the evaluation is not finite: the model has diverged; "
                "take an earlier checkpoint, or train again with a lower learning_rate"
            )

    def value(self, metric: str, **setting: object) -> float:
        """Return the value of a metric at one setting.

        Raises:
            KeyError: not exactly one row matches.
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
    task_config: Config,
    *,
    split: Split = "validation",
    examples: int,
    batch_size: int,
) -> Evaluation:
    """Measure a model on the first `examples` rows of a split.

    Equal parameters give equal numbers, bit for bit: a reloaded model evaluates as it
    did in memory. Recall measures a task that asks for earlier tokens (`chance` is a
    number); bits per byte measure a task that continues a text (`chance` is None).

    Args:
        model: a language model; it is not changed.
        task_config: the task.
        split: part of the task's data.
        examples: number of rows; at most one epoch is read.
        batch_size: rows computed at once.

    Raises:
        InputError: a number is below 1.
        DataError: the data is missing, or its rows have no targets.
        NonFiniteError: a number is not finite.
    """
    task = task_config.build(split)
    rows_there = _rows_read(task, examples)
    size = min(batch_size, rows_there)
    with Pipeline(task_config, split, size, num_rows=rows_there) as batches:
        scores = score(model, batches)
    if not np.any(scores.weights > 0):
        raise _nothing_asked(rows_there, split)
    if task_config.chance is None:
        rows = perplexity(scores, length=task_config.length)
    else:
        rows = recall(scores, [task.setting(i) for i in range(rows_there)])
    return Evaluation(
        accuracy=scores.mean(scores.correct), loss=scores.mean(scores.nats), rows=rows
    )


def check_targets(
    task_config: Config, *, split: Split, examples: int, batch_size: int
) -> None:
    """Refuse rows that `evaluate` could not measure; stop at the first target.

    Raises:
        InputError: a number is below 1.
        DataError: the data is missing, or its rows have no targets.
    """
    task = task_config.build(split)
    rows = _rows_read(task, examples)
    for first in range(0, rows, batch_size):
        indices = np.arange(first, min(first + batch_size, rows))
        if np.any(task.examples(indices).target_weights > 0):
            return
    raise _nothing_asked(rows, split)


def _rows_read(task: Task, examples: int) -> int:
    """Return the number of rows that an evaluation reads: at most one epoch."""
    if examples < 1:
        raise InputError(f"examples is {examples}; give a number above 0")
    return min(examples, len(task))


def _nothing_asked(rows: int, split: Split) -> DataError:
    return DataError(
        f"the first {rows} rows of the {split} split have no targets; read more rows, "
        "or give the split more data"
    )


def _agrees(setting: object, wanted: dict[str, object]) -> bool:
    assert isinstance(setting, dict)
    return all(setting.get(name) == value for name, value in wanted.items())
