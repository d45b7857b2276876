"""Compiled program of an experiment: initialisation of the state, and the step."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Key

from ..configs.experiment import ExperimentConfig
from ..data.batch import Batch
from .objective import objective_of
from .optimizer import make_optimizer, schedule_numbers
from .sharding import batch_sharding, check_batch
from .state import Template, TrainState, born_sharded, make_template, state_specs
from .step import Step, make_step


@dataclass(frozen=True)
class Program:
    """Model without its arrays, with the functions that initialise and train it.

    Attributes:
        specs: shapes, types and shardings of the state.
        init: creates the state before the first step, already sharded.
        step: `step(state, batch) -> (state, metrics)`; compiled once.
    """

    mesh: Mesh
    template: Template
    specs: TrainState
    init: Callable[[], TrainState]
    step: Step

    def put(self, batch: Batch) -> Batch:
        """Return the global batch on the devices, from every process's own rows."""
        place = batch_sharding(self.mesh)
        return jax.tree.map(
            lambda a: jax.make_array_from_process_local_data(place, np.asarray(a)),
            batch,
        )


def make_program(config: ExperimentConfig, mesh: Mesh) -> Program:
    """Return the program of an experiment; nothing is allocated or compiled yet.

    Raises:
        InputError: the mesh cannot divide the batch, or a parameter has no role.
    """
    check_batch(mesh, config.batch_size, config.gradient_accumulation)

    def build(key: Key[Array, ""]) -> nnx.Module:
        return config.model.build(nnx.Rngs(key))

    template = make_template(build)
    numbers = schedule_numbers(config.optimizer, config.steps)
    optimizer = make_optimizer(config.optimizer, numbers, template.shapes()[0])
    specs = state_specs(mesh, build, optimizer)
    step = make_step(
        template,
        config.optimizer,
        numbers,
        mesh=mesh,
        specs=specs,
        gradient_accumulation=config.gradient_accumulation,
        objective=objective_of(config.task),
    )
    return Program(
        mesh=mesh,
        template=template,
        specs=specs,
        init=lambda: born_sharded(build, optimizer, specs, jax.random.key(config.seed)),
        step=step,
    )
