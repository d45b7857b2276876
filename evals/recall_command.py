"""`memzoo recall`: read `--task` and the task's flags, run the sweep, print tables."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro
from rich.console import Console

from memzoo.errors import InputError

from ..configs.outside import import_typed
from ..configs.serialise import near
from ..models.field_types import sort_of
from .page import Section
from .recall_config import RecallConfig
from .recall_task import PlainRecall, RecallTask
from .sweep import recall
from .table import print_table
from .tasks import RECALL_TASKS

_DEFAULT = "mqar"


@dataclass(frozen=True, kw_only=True)
class RecallOptions:
    """Train layers on recall, over learning rates and seeds, and compare them.

    A second call continues a sweep that was stopped. With more layers, pairs, widths,
    learning rates or seeds, it trains only what is missing.
    """

    task: str = _DEFAULT
    """Task to recall: mqar (key-value pairs), needle (one long value hidden in noise,
    read far beyond the trained length), set_disjointness (the token that two sets
    share, read in both orders), ballet (who danced which dance), gist_and_detail (the
    theme of a segment, or a word in it), or a task from outside:
    my_task.py:MyTaskConfig. Each task has further options: --task NAME --help."""
    config: Annotated[RecallConfig, tyro.conf.arg(name="")]


def options_of_task(arguments: Sequence[str]) -> RecallOptions:
    """Return the default options of the task that the arguments name.

    Raises:
        MemzooError: there is no such task.
    """
    name = _task_name(arguments)
    task = recall_task(name)
    fields = {each.name for each in dataclasses.fields(task)}  # pyright: ignore
    taken = fields & {each.name for each in dataclasses.fields(RecallConfig)}
    if taken - {"task"}:
        raise InputError(
            f"task {name!r} has a field {min(taken)!r}, which is already an option of "
            "memzoo recall; rename the field"
        )
    return RecallOptions(task=name, config=RecallConfig(task=task))


def recall_task(name: str) -> RecallTask:
    """Return the task of this name, with its default settings.

    Args:
        name: name of a task of memzoo, or `module:Class` or `file.py:Class`: a subclass
            of `RecallTask` or the config of a task.

    Raises:
        MemzooError: there is no such task.
    """
    if name in RECALL_TASKS:
        return RECALL_TASKS[name]()
    if ":" not in name:
        raise InputError(f"task is {name!r}{near(name, RECALL_TASKS)}")
    name, kind = import_typed(name, "task")
    whole = issubclass(kind, RecallTask)
    if not whole and sort_of(kind) != "task":
        raise InputError(f"{name} is not a task; name the config of one")
    try:
        made: Any = kind()
    except TypeError as error:
        raise InputError(
            f"{name} cannot be made without arguments ({error}); give its fields "
            "defaults"
        ) from error
    return made if whole else PlainRecall(task=made)


def _task_name(arguments: Sequence[str]) -> str:
    """Return the value of `--task`; the last one wins, as for every other flag."""
    name = _DEFAULT
    for word, following in zip(arguments, [*arguments[1:], "--"], strict=True):
        # Without a value, keep the default; parsing the flags refuses it later.
        if word == "--task" and not following.startswith("--"):
            name = following
        elif word.startswith("--task="):
            name = word.partition("=")[2]
    return name


def run(config: RecallConfig) -> int:
    """Train what is missing, print the tables of the page; return the exit code."""
    done = recall(config)
    if config.json:
        print(json.dumps(done.measured.rows, indent=2))
        return 0
    print_tables(done.findings.sections)
    print(f"\n{done.page}")
    return 0


def print_tables(sections: Sequence[Section], console: Console | None = None) -> None:
    """Print the tables of a page, in its order."""
    for table in [table for section in sections for table in section.tables]:
        print_table(table, console)
