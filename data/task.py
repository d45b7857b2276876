"""Protocols of tasks: rows are a pure function of (config, split, index)."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from memzoo.errors import InputError

from .batch import Batch

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

# The length of a task that never repeats an example.
ENDLESS = 2**62

# In a row or document: positions are counted in 32 bits.
MOST_TOKENS = 10**9


# What rows are measured under, by name: numbers of pairs, lengths.
Setting = dict[str, float]


class DataError(InputError):
    """Data that is missing or not what it was; one line, with the remedy."""


@runtime_checkable
class Task(Protocol):
    """One split of a task."""

    def __len__(self) -> int:
        """Rows of one epoch; `ENDLESS` where none is ever repeated."""
        ...

    def examples(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The rows with these numbers: the same bytes in any batch, order or process.

        Numbers from `len(self)` on belong to the next epochs.
        """
        ...

    def setting(self, index: int) -> Setting:
        """Setting that row `index` of `examples` is measured under."""
        ...


@runtime_checkable
class Config(Protocol):
    """Config of a task: a frozen keyword-only dataclass.

    A field with `metadata={"changes_data": False}` (the place of a folder, say) stays
    out of the fingerprint.

    Attributes:
        task_name: as registered in `TASKS`.
        data_version: raised when the same config begins to give other bytes.
        vocab_size: tokens are below it.
        length: tokens a row.
        chance: accuracy without any memory; `None` where there is no such number.

    Optional members, each read by the function beside it:

    - `kinds` (property): settings of the rows, where they are more than the length;
      `kinds_of`.
    - `setting_words` (class variable): how a setting reads, `{"num_pairs": "{} pairs"}`
      for "4 pairs". Without one it reads "num_pairs 4".
    - `chance_of(setting)`: chance of the rows of one setting; `chance_of`.
    - `at_length(length)`: the task with rows of another length; `at_length`.
    - `has_split(split)`: False where the task has no such split; `has_split`.
    - `reads_prefix` (class variable): rows mark a prefix; `reads_prefix`.
    """

    if TYPE_CHECKING:
        # Not for isinstance: tyro asks issubclass, which allows methods alone.
        __dataclass_fields__: ClassVar[dict[str, Any]]
        task_name: ClassVar[str]
        data_version: ClassVar[int]

        @property
        def vocab_size(self) -> int: ...

        @property
        def length(self) -> int: ...

        @property
        def chance(self) -> float | None: ...

    def build(self, split: Split) -> Task:
        """One split of the task.

        Raises:
            DataError: the data is not there.
        """
        ...

    def content(self) -> dict[str, int | str]:
        """Return numbers and a digest of data from outside; empty if there is none."""
        ...


def kinds_of(config: Config) -> tuple[Setting, ...]:
    """Return the settings that the rows of a task take in turn; often a single one.

    A split may hand its rows out in another order: only the built task knows the
    setting of a row (`Task.setting`).
    """
    kinds: tuple[Setting, ...] | None = getattr(config, "kinds", None)
    return ({"length": config.length},) if kinds is None else kinds


def has_split(config: Config, split: Split) -> bool:
    """Return whether the config wants data in this split; a share of 0 says no.

    A task that can do without a split has a method `has_split` that says so.
    """
    own = getattr(config, "has_split", None)
    return True if own is None else own(split)


def chance_of(config: Config, setting: Mapping[str, Any]) -> float | None:
    """Return the accuracy without any memory on rows of one setting."""
    own = getattr(config, "chance_of", None)
    return config.chance if own is None else own(setting)


def reads_prefix(config: Config) -> bool:
    """Return whether the rows of the task mark a prefix."""
    return getattr(config, "reads_prefix", False)


def change_innermost(config: Any, change: Callable[[Any], Any]) -> Any:
    """Return the task with `change` applied to the innermost task that it holds."""
    held = getattr(config, "task", None)
    if not hasattr(held, "task_name"):
        return change(config)
    return dataclasses.replace(config, task=change_innermost(held, change))


def with_task_fields(config: Any, **fields: Any) -> Any:
    """Return the task with other fields; of tasks that hold tasks, the innermost.

    Raises:
        InputError: the task has no such field, or refuses the value.
    """

    def change(task: Any) -> Any:
        known = sorted(field.name for field in dataclasses.fields(task) if field.init)
        for name in fields:
            if name not in known:
                raise InputError(
                    f"{task.task_name} has no field {name!r}; known: {', '.join(known)}"
                )
        return dataclasses.replace(task, **fields)

    return change_innermost(config, change)


def at_length(config: Any, length: int) -> Any:
    """Return the task with rows of another length, before they are repeated.

    Raises:
        InputError: the task has no rows of this length.
    """

    def change(task: Any) -> Any:
        own = getattr(task, "at_length", None)
        return with_task_fields(task, length=length) if own is None else own(length)

    return change_innermost(config, change)


def fingerprint(config: Config) -> dict[str, Any]:
    """Return everything that decides the bytes of the data, as a flat JSON object.

    Equal fingerprints give equal data.

    Raises:
        DataError: the data is not there.
    """
    fields = {
        field.name: _json(getattr(config, field.name))
        for field in dataclasses.fields(config)
        if field.metadata.get("changes_data", True)
    }
    head = {"task": config.task_name, "data_version": config.data_version}
    return head | fields | config.content()


def _json(value: Any) -> Any:
    """`value` as it comes back from a JSON file."""
    return [_json(v) for v in value] if isinstance(value, tuple) else value
