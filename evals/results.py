"""results.json: the measured numbers, one JSON object each."""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from memzoo.errors import NonFiniteError

from ..configs.experiment import ExperimentConfig
from ..configs.serialise import type_name
from ..data.repeat import task_label
from ..data.task import Split, chance_of
from ..models.interface import state_bytes
from ..train.manifest import DamagedError
from ..train.sealed import read_json
from ..train.writing import explained, replace_text
from .evaluate import evaluate
from .results_csv import csv_text
from .score import Model

RESULTS = "results.json"
# Batches of `measured_rows` hold at most this many tokens.
TOKENS_AT_ONCE = 16_384

ResultRow = dict[str, Any]


def result_rows(
    config: ExperimentConfig, measured: Iterable[Mapping[str, Any]], step: int
) -> list[ResultRow]:
    """Return rows of results.json from the rows of an evaluation.

    Args:
        config: the experiment that was evaluated.
        measured: objects with `setting`, `metric` and `value`.
        step: step of the checkpoint, or of the model in memory.
    """
    parameters, state = sizes(config)
    return [
        {
            "layer": layer_name(config),
            "task": task_label(config.task),
            "setting": row["setting"],
            "metric": row["metric"],
            "value": row["value"],
            "seed": config.seed,
            "parameters": parameters,
            "state_bytes": state,
            "checkpoint_step": step,
            "learning_rate": config.optimizer.learning_rate,
            "chance": _chance(config, row),
        }
        for row in measured
    ]


def measured_rows(
    model: Model,
    config: ExperimentConfig,
    *,
    split: Split,
    examples: int,
    step: int,
    batch_size: int | None = None,
) -> list[ResultRow]:
    """Measure a model on the rows of a task and return rows of results.json.

    The settings name the split unless it is validation, which trainings evaluate on.

    Args:
        model: a language model; it is not changed.
        config: the experiment that trained the model, with the task to read.
        split: part of the data.
        examples: number of rows.
        step: step of the checkpoint.
        batch_size: rows computed at once; None: fewer for longer rows.

    Raises:
        NonFiniteError: the model's loss is not finite.
        DataError: the data is missing.
    """
    length = config.task.length
    if batch_size is None:
        batch_size = max(1, min(examples, TOKENS_AT_ONCE // length))
    try:
        found = evaluate(
            model, config.task, split=split, examples=examples, batch_size=batch_size
        )
    except NonFiniteError as error:
        raise NonFiniteError(f"rows of {length} tokens: {error}") from error
    rows = result_rows(config, found.rows, step)
    if split == "validation":
        return rows
    return [r | {"setting": r["setting"] | {"split": split}} for r in rows]


def layer_name(config: ExperimentConfig) -> str:
    """Return the registered names of the pattern's layers, joined by `+`."""
    layers = [layer for group in config.model.pattern for layer in group.layers]
    return "+".join(dict.fromkeys(type_name(layer) for layer in layers))


@functools.lru_cache(maxsize=256)
def sizes(config: ExperimentConfig) -> tuple[int, int]:
    """Return the number of parameters and the state's bytes for one row of the task.

    Nothing is allocated.
    """
    model = nnx.eval_shape(lambda: config.model.build(nnx.Rngs(0)))
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    parameters = sum(leaf.size for leaf in leaves)
    return parameters, state_bytes(model.stack, config.task.length)


def write_results(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows to `path` and to a .csv file beside it, each file atomically.

    Raises:
        SaveError: the rows cannot be written.
    """
    with explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    replace_text(path.with_suffix(".csv"), csv_text(rows))
    replace_text(path, f"[\n{lines}\n]\n")


def read_results(path: Path) -> list[ResultRow]:
    """Return the rows at `path`.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedError: the file holds no rows, or something else.
        ReadError: the file cannot be read.
    """
    rows = read_json(path)
    check_rows(rows)
    return rows


_FIELDS: dict[str, type | tuple[type, ...]] = {
    "layer": str,
    "task": str,
    "setting": dict,
    "metric": str,
    "value": (int, float),
    "seed": int,
    "parameters": int,
    "state_bytes": int,
    "checkpoint_step": int,
    "learning_rate": (int, float),
    "chance": (int, float, type(None)),
}


def check_rows(rows: Any) -> None:
    """Raise DamagedError unless `rows` is a non-empty list of rows."""
    if not isinstance(rows, list) or not rows:
        raise DamagedError("it is not a list of results")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise DamagedError(f"row {number} is not a JSON object")
        for name, kind in _FIELDS.items():
            if name not in row:
                raise DamagedError(f"row {number} has no {name}")
            if not isinstance(row[name], kind) or isinstance(row[name], bool):
                raise DamagedError(f"{name} of row {number} is {row[name]!r:.40}")


def _chance(config: ExperimentConfig, row: Mapping[str, Any]) -> float | None:
    """Return the accuracy that guessing reaches on the rows of this setting."""
    if row["metric"] != "accuracy":
        return None
    return chance_of(config.task, row["setting"])
