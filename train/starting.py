"""Parameters that a new run takes from another run."""

from collections.abc import Callable
from typing import Any

from flax import nnx

from memzoo.errors import InputError

from ..configs.experiment import ExperimentConfig
from .program import Program
from .runs import load_run
from .state import TrainState, by_path

_MOST_NAMED = 3


def initial_state(
    config: ExperimentConfig, program: Program
) -> Callable[[], TrainState]:
    """Return a function that creates the state before the first step.

    With `config.start_from`, the parameters of that run are read immediately.
    Everything else, such as the state of the optimizer, is new.

    Raises:
        CheckpointError: the run has no intact checkpoint.
        InputError: its parameters are not those of the config's model.
    """
    if config.start_from is None:
        return program.init
    loaded = load_run(config.start_from, mesh=config.mesh)
    params = by_path(nnx.state(loaded.model, nnx.Param))
    check_parameters(config.start_from, params, program.specs.params)
    return lambda: program.init()._replace(params=params)


def check_parameters(run: str, given: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse parameters with other names or shapes.

    Raises:
        InputError: names the run and the first parameters that differ.
    """
    shapes = [
        {path: tuple(leaf.shape) for path, leaf in each.items()}
        for each in (given, wanted)
    ]
    if shapes[0] == shapes[1]:
        return
    differ = [
        path
        for path in sorted({*given, *wanted})
        if shapes[0].get(path) != shapes[1].get(path)
    ]
    named = [
        f"{path} {_shape(shapes[0], path)} (here {_shape(shapes[1], path)})"
        for path in differ[:_MOST_NAMED]
    ]
    rest = len(differ) - len(named)
    more = f" and {rest} more" if rest else ""
    raise InputError(
        f"start_from {run}: its model has {', '.join(named)}{more}; give a run of "
        "the same model"
    )


def _shape(shapes: dict[str, tuple[int, ...]], path: str) -> str:
    return "x".join(map(str, shapes[path])) if path in shapes else "absent"
