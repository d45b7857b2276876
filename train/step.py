"""The training step: compiled once, with a sharded state that it consumes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key

from ..configs.experiment import OptimizerConfig
from ..data.batch import Batch
from ..models.interface import SequenceInfo
from ..models.language_model import Reported
from ..models.loss import Auxiliary, LossSums, auxiliary_loss
from .objective import Objective
from .optimizer import ScheduleNumbers, make_optimizer, make_schedule
from .sharding import BATCH_AXES, batch_sharding, replicated
from .state import Arrays, Template, TrainState, by_path, shardings

StepMetrics = dict[str, Array]
Forward = tuple[LossSums, Arrays, dict[str, Array]]
"""Sums of the loss, every Variable but the parameters, and the layers' reports."""


class Step:
    """Compiled step with the numbers of its schedule.

    The numbers are arguments of the compiled function: runs that differ only in
    learning rate, steps or seed share one program.
    """

    def __init__(
        self,
        compiled: Callable[
            [TrainState, Batch, ScheduleNumbers], tuple[TrainState, StepMetrics]
        ],
        numbers: ScheduleNumbers,
    ):
        self.compiled: Any = compiled
        self.numbers = numbers

    def __call__(
        self, state: TrainState, batch: Batch
    ) -> tuple[TrainState, StepMetrics]:
        return self.compiled(state, batch, self.numbers)


def make_step(
    template: Template,
    config: OptimizerConfig,
    numbers: ScheduleNumbers,
    *,
    mesh: Mesh,
    specs: TrainState,
    gradient_accumulation: int = 1,
    objective: Objective | None = None,
) -> Step:
    """Return a jitted `step(state, batch) -> (state, metrics)`; `state` is consumed.

    The metrics are `loss`, `cross_entropy`, `accuracy`, `grad_norm`, `learning_rate`
    and, as `metric/<path>`, the layers' reports. A step whose loss, gradient or new
    parameters are not finite changes only `step` and `failed_step` in the state.
    """

    def step(
        state: TrainState, batch: Batch, numbers: ScheduleNumbers
    ) -> tuple[TrainState, StepMetrics]:
        optimizer = make_optimizer(config, numbers, state.params)
        schedule = make_schedule(config.schedule, numbers)
        gradients, rest, metrics = gradients_of(
            template,
            state.params,
            state.rest,
            batch,
            mesh,
            gradient_accumulation,
            objective,
            # A step makes the same draws after a restart, and on any mesh.
            jax.random.fold_in(jax.random.key(0), state.step),
        )
        norm = optax.tree.norm(gradients)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        # Parameters whose squares overflow have exploded too.
        size = optax.tree.norm(params)
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm) & jnp.isfinite(size)
        going = finite & (state.failed_step < 0)
        params, rest, opt_state = jax.tree.map(
            lambda new, old: jnp.where(going, new, old),
            (params, rest, opt_state),
            (state.params, state.rest, state.opt_state),
        )
        number = state.step + 1
        failed = jnp.where((state.failed_step < 0) & ~finite, number, state.failed_step)
        metrics |= {"grad_norm": norm, "learning_rate": schedule(state.step)}
        return TrainState(params, rest, opt_state, number, failed), metrics

    places = shardings(specs)
    compiled = jax.jit(
        step,
        in_shardings=(places, batch_sharding(mesh), replicated(mesh)),
        out_shardings=(places, replicated(mesh)),
        donate_argnums=0,
    )
    return Step(compiled, jax.device_put(numbers, replicated(mesh)))


def gradients_of(
    template: Template,
    params: Arrays,
    rest: Arrays,
    batch: Batch,
    mesh: Mesh,
    slices: int,
    objective: Objective | None = None,
    key: Key[Array, ""] | None = None,
) -> tuple[Arrays, Arrays, StepMetrics]:
    """Return gradients of the whole batch's mean loss, computed one slice at a time.

    Sums over the slices, including those of auxiliary losses, are divided once by the
    total weight, so that slices with few targets count correctly.

    Args:
        objective: reweights the targets; None: the batch's weights.
        key: key of the layers' draws; None: no draws.
    """
    total = jnp.sum(batch.target_weights)
    if objective is not None:
        batch, total = objective.weigh(batch)

    def forward(
        params: Arrays, rest: Arrays, part: Batch, number: int | Array = 0
    ) -> Forward:
        model = template.merge(params, rest)
        own = None if key is None else jax.random.fold_in(key, number)
        sums = _sums(model, part, own)
        reports = by_path(nnx.pop(model, Reported)).get("metrics", {})
        return sums, by_path(nnx.state(model, nnx.Not(nnx.Param))), reports

    if slices == 1:
        gradient = _gradient(forward, total)
        gradients, (sums, rest, reports) = gradient(params, rest, batch)
    else:
        parts = _slices(batch, mesh, slices)
        gradients, (sums, rest, reports) = _over_slices(
            forward, total, params, rest, parts, slices
        )
    # Without any target the loss is 0, not 0 / 0.
    weight = jnp.where(sums.weight > 0, sums.weight, 1.0)
    divisor = weight if objective is None else total
    gradients = jax.tree.map(lambda a: a / divisor, gradients)
    cross_entropy = sums.cross_entropy / divisor
    metrics = {
        "loss": cross_entropy + sums.auxiliary,
        "cross_entropy": cross_entropy,
        "accuracy": sums.correct / weight,
    }
    metrics |= {f"metric/{name}": value for name, value in reports.items()}
    return gradients, rest, metrics


def _sums(model: Any, part: Batch, key: Key[Array, ""] | None) -> LossSums:
    masks: Any = (part.reset, part.valid, part.prefix)
    return model.loss_sums(
        part.tokens,
        part.targets,
        target_positions=part.target_positions,
        target_weights=part.target_weights,
        info=SequenceInfo(*masks, key=key),
    )


def _gradient(
    forward: Callable[..., Forward], total: Array, slopes: tuple[Auxiliary, ...] = ()
) -> Callable[..., tuple[Arrays, Forward]]:
    """Return the gradient of the summed loss of a batch or slice, by the parameters.

    Args:
        forward: forward pass of the batch or slice.
        total: weight of all targets of the whole batch.
        slopes: for a slice, derivatives of the whole batch's auxiliary losses by their
            sums. Empty for a whole batch.
    """

    def loss(params: Arrays, *arguments: Any) -> tuple[Array, Forward]:
        found = forward(params, *arguments)
        sums = found[0]
        auxiliary = sums.auxiliary
        if slopes:
            pairs = zip(
                jax.tree.leaves(slopes), jax.tree.leaves(sums.parts), strict=True
            )
            auxiliary = sum(jnp.vdot(slope, part) for slope, part in pairs)
        return sums.cross_entropy + auxiliary * total, found

    return jax.grad(loss, has_aux=True)


def _over_slices(
    forward: Callable[..., Forward],
    total: Array,
    params: Arrays,
    rest: Arrays,
    parts: Batch,
    slices: int,
) -> tuple[Arrays, Forward]:
    """Return gradients and sums added over the slices, and averaged reports.

    If layers add to the loss, every slice takes one more forward pass before the
    gradients: the weight of a slice's sums depends on those of the whole batch.
    """
    numbered = (parts, jnp.arange(slices))

    def add_up(rest: Arrays, part: tuple[Batch, Array]) -> tuple[Arrays, Any]:
        sums, rest, _ = forward(params, rest, *part)
        return rest, sums.parts

    _, auxiliary = jax.lax.scan(add_up, rest, numbered)
    slopes = jax.grad(auxiliary_loss)(jax.tree.map(_added, auxiliary))
    gradient = _gradient(forward, total, slopes)

    def body(carry: Any, part: tuple[Batch, Array]) -> tuple[Any, Any]:
        gradients, rest = carry
        more, (sums, rest, reports) = gradient(params, rest, *part)
        return (jax.tree.map(jnp.add, gradients, more), rest), (sums, reports)

    zeros = jax.tree.map(jnp.zeros_like, params)
    (gradients, rest), (sums, reports) = jax.lax.scan(body, (zeros, rest), numbered)
    reports = jax.tree.map(lambda a: jnp.mean(a, axis=0), reports)
    return gradients, (jax.tree.map(_added, sums), rest, reports)


def _added(a: Array) -> Array:
    """Return the sum over the slices."""
    return jnp.sum(a, axis=0)


def _slices(batch: Batch, mesh: Mesh, slices: int) -> Batch:
    """Return the batch as `slices` parts along a new first axis.

    Neighbouring rows go to different parts, so that every device keeps its rows.
    """
    place = NamedSharding(mesh, PartitionSpec(None, BATCH_AXES))

    def split(a: Array) -> Array:
        parts = a.reshape(a.shape[0] // slices, slices, *a.shape[1:]).swapaxes(0, 1)
        return jax.lax.with_sharding_constraint(parts, place)

    return jax.tree.map(split, batch)
