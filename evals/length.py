"""A model on rows that it was not trained on: longer ones, or read again."""

import dataclasses
from collections.abc import Sequence

from memzoo.errors import InputError, MemzooError, NonFiniteError

from ..configs.experiment import ExperimentConfig
from ..data import TaskConfig
from ..data.needle import NeedleConfig
from ..data.prefix import PrefixConfig
from ..data.repeat import RepeatConfig, repeat_context
from ..data.set_disjointness import SetDisjointnessConfig
from ..data.task import Split
from .evaluate import evaluate
from .results import ResultRow, result_rows
from .score import Model

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
# Rows of at most this many tokens together are computed at once.
TOKENS_AT_ONCE = 16_384


def at_length(
    experiment: ExperimentConfig, length: int, depths: tuple[float, ...] = DEPTHS
) -> ExperimentConfig:
    """The experiment with rows of another length, needles at these depths in turn.

    Raises:
        InputError: the task has no rows of this length.
    """
    task = _of_length(experiment.task, length, depths)
    return dataclasses.replace(experiment, task=task)


def at_sizes(
    experiment: ExperimentConfig, sizes: tuple[tuple[int, int], ...]
) -> ExperimentConfig:
    """The experiment with sets of other sizes, in turn.

    Raises:
        MemzooError: the task has no sets, or none of these sizes.
    """
    try:
        task = _of_sizes(experiment.task, sizes)
        return dataclasses.replace(experiment, task=task)
    except InputError as error:
        raise MemzooError(f"no sets of these sizes: {error}") from error


def at_readings(
    experiment: ExperimentConfig, times: int, question: bool
) -> ExperimentConfig:
    """The experiment with rows that are read so many times before they are answered."""
    task = repeat_context(experiment.task, times, question)
    return dataclasses.replace(experiment, task=task)


def _of_sizes(task: TaskConfig, sizes: tuple[tuple[int, int], ...]) -> TaskConfig:
    if isinstance(task, PrefixConfig | RepeatConfig):
        return dataclasses.replace(task, task=_of_sizes(task.task, sizes))
    if not isinstance(task, SetDisjointnessConfig):
        raise InputError(f"{task.task_name} has no sizes; leave out --sizes")
    return dataclasses.replace(task, sizes=sizes)


def _of_length(task: TaskConfig, length: int, depths: tuple[float, ...]) -> TaskConfig:
    if isinstance(task, PrefixConfig | RepeatConfig):
        # Of the rows inside, before they are repeated.
        inner = _of_length(task.task, length, depths)
        return dataclasses.replace(task, task=inner)
    if isinstance(task, SetDisjointnessConfig):
        raise InputError("set_disjointness has sizes in place of a length")
    task = dataclasses.replace(task, length=length)
    if isinstance(task, NeedleConfig):
        task = dataclasses.replace(task, depth=depths)
    return task


def by_length(
    model: Model,
    experiment: ExperimentConfig,
    lengths: Sequence[int],
    *,
    split: Split,
    examples: int,
    step: int,
    depths: tuple[float, ...] = DEPTHS,
) -> list[ResultRow]:
    """Rows of results.json of the model at every length, one after the other.

    Few rows are computed at once where they are long.

    Args:
        model: a language model; it is not changed.
        experiment: what it was trained by.
        lengths: tokens a row.
        split: which part of the data.
        examples: rows at each length.
        step: of the checkpoint.
        depths: where needles stand.

    Raises:
        MemzooError: the task has no rows of some length.
        NonFiniteError: the model has no finite loss at some length.
    """
    there: list[ExperimentConfig] = []
    for length in lengths:
        try:
            there.append(at_length(experiment, length, depths))
        except InputError as error:
            raise MemzooError(f"no rows of {length} tokens: {error}") from error
    return _rows(model, there, split, examples, step)


def by_sizes(
    model: Model,
    experiment: ExperimentConfig,
    sizes: Sequence[tuple[int, int]],
    *,
    examples: int,
    step: int,
) -> list[ResultRow]:
    """Rows of results.json of the model on sets of every size, one after the other.

    They are of the test split, and their settings say so.

    Args:
        model: a language model; it is not changed.
        experiment: what it was trained by.
        sizes: of the first and the second set.
        examples: rows at each size.
        step: of the checkpoint.

    Raises:
        MemzooError: the task has no sets, or none of some size.
        NonFiniteError: the model has no finite loss at some size.
    """
    there = [at_sizes(experiment, (size,)) for size in sizes]
    return _said_test(_rows(model, there, "test", examples, step))


def by_readings(
    model: Model,
    experiment: ExperimentConfig,
    times: Sequence[int],
    *,
    question: bool,
    examples: int,
    step: int,
) -> list[ResultRow]:
    """Rows of results.json of the model, read once and as often as is said.

    They are of the test split, and their settings say so.

    Args:
        model: a language model; it is not changed.
        experiment: what it was trained by, on rows that are read once.
        times: readings beyond one.
        question: read the question again too.
        examples: rows.
        step: of the checkpoint.

    Raises:
        NonFiniteError: the model has no finite loss read so often.
    """
    there = [at_readings(experiment, n, question) for n in (1, *times)]
    return _said_test(_rows(model, there, "test", examples, step))


def _rows(
    model: Model,
    experiments: Sequence[ExperimentConfig],
    split: Split,
    examples: int,
    step: int,
) -> list[ResultRow]:
    """Rows of results.json, one experiment after the other."""
    rows: list[ResultRow] = []
    for there in experiments:
        try:
            found = evaluate(
                model,
                there.task,
                split=split,
                examples=examples,
                batch_size=max(1, min(examples, TOKENS_AT_ONCE // there.task.length)),
            )
        except NonFiniteError as error:
            said = f"rows of {there.task.length} tokens: {error}"
            raise NonFiniteError(said) from error
        rows += result_rows(there, found.rows, step)
    return rows


def _said_test(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """The rows, whose settings say that they are of the test split."""
    return [row | {"setting": row["setting"] | {"split": "test"}} for row in rows]
