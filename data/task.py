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

# Length of a task that never repeats an example.
ENDLESS = 2**62

# Most tokens of a row or document: positions are 32-bit integers.
MOST_TOKENS = 10**9


# Setting of rows: values by name, such as number of pairs, length or kind of question.
Setting = dict[str, float | str]


class DataError(InputError):
    """Error for missing or changed data; one line, with the remedy."""


@runtime_checkable
class Task(Protocol):
    """One split of a task."""

    def __len__(self) -> int:
        """Return the rows of one epoch; `ENDLESS` if no row repeats."""
        ...

    def examples(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """Return the rows with these numbers: the same bytes in any batch, order or
        process.

        Numbers from `len(self)` on belong to the next epochs.
        """
        ...

    def setting(self, index: int) -> Setting:
        """Return the setting of row `index` of `examples`."""
        ...


@runtime_checkable
class Config(Protocol):
    """Config of a task: a frozen keyword-only dataclass.

    A field with `metadata={"changes_data": False}` (a folder's path, for example) is
    not part of the fingerprint.

    Attributes:
        task_name: name in `TASKS`.
        data_version: increased when the same config gives different bytes.
        vocab_size: all tokens are below it.
        length: tokens per row.
        chance: accuracy without any memory; `None` if undefined.

    Optional members, with the function that reads each:

    - `kinds` (property): settings of the rows, if they have more than a length;
      `kinds_of`.
    - `setting_words` (class variable): words for a setting, `{"num_pairs": "{} pairs"}`
      for "4 pairs". The default is "num_pairs 4".
    - `chance_of(setting)`: chance of the rows of one setting; `chance_of`.
    - `at_length(length)`: the task with rows of another length; `at_length`.
    - `has_split(split)`: False if the task lacks the split; `has_split`.
    - `reads_prefix` (class variable): whether rows mark a prefix; `reads_prefix`.
    """

    if TYPE_CHECKING:
        # Hidden from isinstance: tyro asks issubclass, which allows only methods.
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
        """Build one split of the task.

        Raises:
            DataError: the data is missing.
        """
        ...

    def content(self) -> dict[str, int | str]:
        """Return numbers and a digest of data from outside; empty if there is none."""
        ...


def kinds_of(config: Config) -> tuple[Setting, ...]:
    """Return the settings that the rows of a task alternate between; often only one.

    A split may return its rows in another order: only the built task knows the setting
    of a row (`Task.setting`).
    """
    kinds: tuple[Setting, ...] | None = getattr(config, "kinds", None)
    return ({"length": config.length},) if kinds is None else kinds


def has_split(config: Config, split: Split) -> bool:
    """Return whether the task has data in this split; a share of 0 means no.

    A task without some split says so in a method `has_split`.
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
    """Return the task with `change` applied to its innermost task."""
    held = getattr(config, "task", None)
    if not hasattr(held, "task_name"):
        return change(config)
    return dataclasses.replace(config, task=change_innermost(held, change))


def with_task_fields(config: Any, **fields: Any) -> Any:
    """Return the task with other fields; for nested tasks, in the innermost one.

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
    """Return the task with rows of another length, before any repetition.

    Raises:
        InputError: the task has no rows of this length.
    """

    def change(task: Any) -> Any:
        own = getattr(task, "at_length", None)
        return with_task_fields(task, length=length) if own is None else own(length)

    return change_innermost(config, change)


def fingerprint(config: Config) -> dict[str, Any]:
    """Return everything that determines the bytes of the data, as a flat JSON object.

    Equal fingerprints give equal data.

    Raises:
        DataError: the data is missing.
    """
    fields = {
        field.name: _json(getattr(config, field.name))
        for field in dataclasses.fields(config)
        if field.metadata.get("changes_data", True)
    }
    head = {"task": config.task_name, "data_version": config.data_version}
    return head | fields | config.content()


def _json(value: Any) -> Any:
    """Return `value` as it would come back from a JSON file."""
    return [_json(v) for v in value] if isinstance(value, tuple) else value
