"""JRT-Prompt: the rows of any recall task, read more than once (arXiv 2407.05483)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int

from memzoo.errors import InputError

from .batch import Batch
from .mqar import MqarConfig
from .task import (
    MOST_TOKENS,
    Config,
    Setting,
    Split,
    Task,
    chance_of,
    fingerprint,
    kinds_of,
)


@dataclass(frozen=True, kw_only=True)
class RepeatConfig:
    """Rows of another task, each read `times` times; the last reading answers.

    A row is a context C (`Batch.context` is its length) and a question Q: everything
    from the first query on. `question` repeats the whole row, as published; without it,
    only the context is repeated:

        times=2, question=True      C Q C Q
        times=2, question=False     C C Q

    All targets move to the last reading. In MQAR, the context is the block of pairs,
    and the question is everything after it, queries and filler.

    Attributes:
        task: task whose rows are repeated; every row must be one document.
        times: number of readings; 1 leaves the rows as they are.
        question: whether to repeat the question too. Without it, rows with different
            contexts are padded at their ends.
    """

    task_name: ClassVar[str] = "repeat"
    data_version: ClassVar[int] = 1

    task: Config = field(default_factory=MqarConfig, metadata={"changes_data": False})
    times: int = 2
    question: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.times, bool) or self.times < 1:
            raise InputError(f"times is {self.times}; give 1 or more")
        if isinstance(self.task, RepeatConfig):
            raise InputError("task is repeated already; set its times instead")
        if self.task.chance is None:
            raise InputError(
                f"task {self.task.task_name} has no questions about a context; choose "
                "a recall task, or times 1"
            )
        if not self.question and context_length(self.task) is None:
            raise InputError(
                f"task {self.task.task_name} does not define its context; set question "
                "to True"
            )

        if self.length > MOST_TOKENS:
            raise InputError(
                f"times is {self.times}, which makes rows of {self.length} tokens; "
                f"give fewer, for {MOST_TOKENS} tokens at most"
            )

    @property
    def label(self) -> str:
        """Return the task's name in results; the setting holds the number of
        readings.
        """
        return task_label(self.task)

    @property
    def vocab_size(self) -> int:
        """Return the number of tokens."""
        return self.task.vocab_size

    @property
    def length(self) -> int:
        """Return the tokens of the longest row."""
        repeated = self.task.length
        if not self.question:
            repeated = context_length(self.task) or 0
        return self.task.length + (self.times - 1) * repeated

    @property
    def context_length(self) -> int | None:
        """Return the most tokens before the last question."""
        context = context_length(self.task)
        if context is None:
            return None
        return context + self.length - self.task.length

    @property
    def chance(self) -> float | None:
        """Return the accuracy without any memory."""
        return self.task.chance

    def chance_of(self, setting: Mapping[str, Any]) -> float | None:
        """Return the accuracy without any memory on rows of one setting."""
        return chance_of(self.task, setting)

    @property
    def kinds(self) -> tuple[Setting, ...]:
        """Return the settings of the task, with the number of readings."""
        return tuple(kind | self.readings for kind in kinds_of(self.task))

    @property
    def readings(self) -> Setting:
        """Return length and number of readings: the part of a setting that repeating
        adds."""
        return {"length": self.length, "repeat_context": self.times}

    def repeated(self, times: int, question: bool) -> Any:
        """Return the task with these readings instead of its own."""
        return repeat_context(self.task, times, question)

    def build(self, split: Split) -> "Repeat":
        """Build one split of the task.

        Raises:
            DataError: the data is missing.
        """
        return Repeat(self, self.task.build(split))

    def content(self) -> dict[str, int | str]:
        """Return the fingerprint of the task."""
        return nested_fingerprint(self.task)


class Repeat:
    """One split of a repeated task."""

    def __init__(self, config: RepeatConfig, task: Task) -> None:
        self.config = config
        self._task = task

    def __len__(self) -> int:
        return len(self._task)

    def examples(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """Return the rows with these numbers, repeated."""
        config, batch = self.config, self._task.examples(indices)
        return repeat_rows(
            batch, times=config.times, question=config.question, length=config.length
        )

    def setting(self, index: int) -> Setting:
        """Return the setting of row `index`."""
        return self._task.setting(index) | self.config.readings


def repeat_rows(batch: Batch, *, times: int, question: bool, length: int) -> Batch:
    """Return the rows of a batch, each read `times` times.

    Args:
        question: whether to repeat whole rows; otherwise only their contexts.
        length: tokens of the returned rows.

    Raises:
        InputError: a row holds several documents, or has no context to repeat.
    """
    if batch.reset is not None:
        raise InputError(
            "rows of several documents cannot be repeated; choose a task whose rows "
            "are one document each"
        )
    rows, before = batch.tokens.shape
    if question:
        repeated = np.full(rows, before, np.int64)
    elif batch.context is None:
        raise InputError("the rows have no context to repeat; set question to True")
    else:
        repeated = batch.context.astype(np.int64)
    shift = ((times - 1) * repeated)[:, None]
    place = np.arange(length)[None, :]
    reading = place < times * repeated[:, None]
    source = np.where(reading, place % np.maximum(repeated[:, None], 1), place - shift)
    real = source < before
    source = np.where(real, source, 0)
    if batch.valid is not None:
        real = real & np.take_along_axis(batch.valid, source, axis=1)
    taken = np.take_along_axis(batch.tokens, source, axis=1)
    always = batch.valid is None and question
    return _moved_targets(batch, source, shift, place)._replace(
        tokens=np.where(real, taken, np.int32(0)),
        valid=None if always else real,
        prefix=None,
        context=None
        if batch.context is None
        else (batch.context + shift[:, 0]).astype(np.int32),
    )


def _moved_targets(
    batch: Batch, source: np.ndarray, shift: np.ndarray, place: np.ndarray
) -> Batch:
    """Move the targets to the last reading."""
    if batch.target_positions is not None:
        moved = (batch.target_positions + shift).astype(np.int32)
        return batch._replace(target_positions=moved)
    last = (place >= shift) & (place - shift < batch.tokens.shape[1])
    weights = np.take_along_axis(batch.target_weights, source, axis=1)
    return batch._replace(
        targets=np.take_along_axis(batch.targets, source, axis=1),
        target_weights=np.where(last, weights, np.float32(0)),
    )


def repeat_context(task: Any, times: int, question: bool = True) -> Any:
    """Return `task` with its rows read `times` times, replacing earlier repetitions.

    Raises:
        InputError: the task cannot be repeated.
    """
    own = getattr(task, "repeated", None)
    if own is not None:
        return own(times, question)
    if times == 1:
        return task
    return RepeatConfig(task=task, times=times, question=question)


def context_length(task: object) -> int | None:
    """Return the most tokens of a row's context; None if the task does not define
    it.
    """
    return getattr(task, "context_length", None)


def task_label(task: object) -> str:
    """Return a task's name in results; for nested tasks, that of the innermost one."""
    return getattr(task, "label", getattr(task, "task_name", ""))


def nested_fingerprint(task: Config) -> dict[str, int | str]:
    """Return the fingerprint of a task inside another."""
    return {f"task.{name}": value for name, value in fingerprint(task).items()}
