"""results.json: what was measured, one object a number."""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from ..configs.errors import MemzooError
from ..configs.experiment import ExperimentConfig
from ..configs.reading import readable
from ..configs.serialise import type_name
from ..data.repeat import task_label
from ..models.interface import state_bytes
from ..train.writing import explained, replace_text

RESULTS = "results.json"

ResultRow = dict[str, Any]


def result_rows(
    config: ExperimentConfig, measured: Iterable[Mapping[str, Any]], step: int
) -> list[ResultRow]:
    """Rows of results.json from the rows of an evaluation.

    Args:
        config: the experiment that was evaluated.
        measured: objects with `setting`, `metric` and `value`.
        step: of the checkpoint, or of the model in memory.
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


def layer_name(config: ExperimentConfig) -> str:
    """Registered names of the pattern's layers, joined by `+`."""
    layers = [layer for group in config.model.pattern for layer in group.layers]
    return "+".join(dict.fromkeys(type_name(layer) for layer in layers))


@functools.lru_cache(maxsize=256)
def sizes(config: ExperimentConfig) -> tuple[int, int]:
    """Parameters, and bytes of state of one sequence as long as the task's rows.

    Nothing is allocated.
    """
    model = nnx.eval_shape(lambda: config.model.build(nnx.Rngs(0)))
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    parameters = sum(leaf.size for leaf in leaves)
    return parameters, state_bytes(model.stack, config.task.length)


def write_results(path: Path, rows: Sequence[ResultRow]) -> None:
    """The rows are at `path`: at no moment half of them.

    Raises:
        SaveError: they cannot be written.
    """
    with explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    replace_text(path, f"[\n{lines}\n]\n")


def read_results(path: Path) -> list[ResultRow]:
    """The rows at `path`.

    Raises:
        MemzooError: it holds no rows.
        ReadError: it cannot be read.
    """
    try:
        with readable(path):
            rows = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(rows, list) or not all("metric" in row for row in rows):
            raise ValueError("it is not a list of results")
    except (OSError, ValueError, TypeError) as error:
        raise MemzooError(
            f"{path} holds no results ({error}); delete it and measure again"
        ) from error
    return rows


def _chance(config: ExperimentConfig, row: Mapping[str, Any]) -> float | None:
    """Accuracy without any memory: for pairs, of naming any value of the sequence."""
    if row["metric"] != "accuracy":
        return None
    pairs = row["setting"].get("num_pairs")
    return 1 / pairs if pairs else config.task.chance
