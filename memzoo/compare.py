"""Comparison of layers on recall tasks, from Python."""

import dataclasses
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memzoo.errors import InputError, MemzooError, shown

from .configs.serialise import near
from .evals.recall_command import recall_task
from .evals.recall_config import RecallConfig
from .evals.results_csv import flat_rows
from .evals.sweep import recall as run_sweep

if TYPE_CHECKING:
    import pandas  # pyright: ignore[reportMissingImports]


@dataclasses.dataclass(frozen=True)
class RecallTable:
    """Results of a comparison.

    Attributes:
        rows: one dictionary per number: layer, the settings of the task, metric,
            value, seed, learning_rate, parameters, state_bytes, chance.
        page: path of report.html, with the tables and figures.
    """

    rows: list[dict[str, Any]]
    page: Path

    def to_pandas(self) -> "pandas.DataFrame":
        """Return the rows as a data frame.

        Raises:
            MemzooError: pandas is not installed.
        """
        try:
            import pandas  # pyright: ignore[reportMissingImports]
        except ModuleNotFoundError as error:
            raise MemzooError(
                "to_pandas needs pandas; install memzoo[pandas], or use .rows"
            ) from error
        return pandas.DataFrame(self.rows)


def recall(
    layers: Sequence[str] | None = None,
    task: str = "mqar",
    *,
    progress: bool = True,
    **options: Any,
) -> RecallTable:
    """Train layers on a recall task and compare them, as `memzoo recall` does.

    Finished trainings in the folder `output`/`name` are not repeated.

    Args:
        layers: one or several registered names, or `module:Config` and
            `file.py:Config` for your layers. None: three different layers.
        task: mqar, needle, set_disjointness, ballet, gist_and_detail, or
            `module:Config` for your task.
        progress: show the progress.
        options: options of `memzoo recall` with underscores, such as
            `num_pairs=(8, 16)`, `steps=500`, `seeds=(0,)` or `name="mine"`. A single
            value may stand for a tuple of one.

    Raises:
        InputError: an option is unknown or its value is refused.
        MemzooError: the folder holds a comparison with other settings.
    """
    if not isinstance(task, str):
        raise InputError(f"task is {task!r}; give a name, or file.py:Config")
    if layers is not None:
        options["layers"] = layers if isinstance(layers, str) else tuple(layers)
    made: Any = recall_task(task)
    of_task = {field.name for field in dataclasses.fields(made)}
    of_all = {field.name for field in dataclasses.fields(RecallConfig)} - {"task"}
    hints = typing.get_type_hints(RecallConfig) | typing.get_type_hints(type(made))
    for name in options:
        if name not in of_task | of_all:
            raise InputError(f"option is {name!r}{near(name, of_task | of_all)}")
    options = {
        name: _as_tuple(name, value, hints[name]) for name, value in options.items()
    }
    if "output" in options:
        options["output"] = Path(options["output"])
    made = dataclasses.replace(
        made, **{name: options.pop(name) for name in list(options) if name in of_task}
    )
    done = run_sweep(RecallConfig(task=made, **options), progress=progress)
    return RecallTable(flat_rows(done.measured.rows), done.page)


def _as_tuple(name: str, value: Any, hint: Any) -> Any:
    """Return the value, as a tuple if the field holds one.

    Raises:
        InputError: an item is of the wrong type.
    """
    if typing.get_origin(hint) is not tuple or value is None:
        return tuple(value) if isinstance(value, list) else value
    values = tuple(value) if isinstance(value, list | tuple | range) else (value,)
    item = typing.get_args(hint)[0]
    kind, word = _ITEMS.get(item, (tuple, "pair of whole numbers"))
    for each in values:
        if not isinstance(each, kind):
            raise InputError(
                f"{name} is {shown(value)}, and {shown(each)} is not a {word}"
            )
    return values


_ITEMS = {
    int: (int, "whole number"),
    float: (int | float, "number"),
    str: (str, "name"),
}
"""Types that an item may have, and their name, by the type that a field declares."""
