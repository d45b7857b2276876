"""The training step: compiled once, its state placed and donated."""

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
from ..models.loss import LossSums
from .objective import Objective
from .optimizer import ScheduleNumbers, make_optimizer, make_schedule
from .sharding import BATCH_AXES, batch_sharding, replicated
from .state import Arrays, Template, TrainState, by_path, shardings

StepMetrics = dict[str, Array]


class Step:
    """A compiled step with the numbers of its schedule.

    The numbers are arguments of what is compiled: runs that differ in nothing but
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
    """A jitted `step(state, batch) -> (state, metrics)`; `state` is consumed.

    The metrics are `loss`, `cross_entropy`, `accuracy`, `grad_norm`, `learning_rate`
    and, as `metric/<path>`, what the layers report. A step whose loss, gradient or new
    parameters are not finite leaves the state as it was, but for `step` and
    `failed_step`.
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
            # A step draws the same again after a restart, and on any mesh.
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
    """Gradients of the mean loss of the whole batch, computed a slice at a time.

    Sums over the slices are divided once by the total weight, so that slices with few
    targets count for what they hold.

    Args:
        objective: weighs the targets anew; None: as the batch says.
        key: of what layers draw; None: nothing is drawn.
    """
    total = jnp.sum(batch.target_weights)
    if objective is not None:
        batch, total = objective.weigh(batch)

    share = total / slices

    def slice_loss(
        params: Arrays, rest: Arrays, part: Batch, number: int | Array = 0
    ) -> tuple[Array, Any]:
        model = template.merge(params, rest)
        own = None if key is None else jax.random.fold_in(key, number)
        sums = _sums(model, part, own)
        reports = by_path(nnx.pop(model, Reported)).get("metrics", {})
        after = by_path(nnx.state(model, nnx.Not(nnx.Param)))
        return sums.cross_entropy + sums.auxiliary * share, (sums, after, reports)

    differentiate = jax.grad(slice_loss, has_aux=True)
    if slices == 1:
        gradients, (sums, rest, reports) = differentiate(params, rest, batch)
    else:
        parts = _slices(batch, mesh, slices)
        gradients, (sums, rest, reports) = _over_slices(
            differentiate, params, rest, parts, slices
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
    return model.loss(
        part.tokens,
        part.targets,
        target_positions=part.target_positions,
        target_weights=part.target_weights,
        info=SequenceInfo(*masks, key=key),
    )


def _over_slices(
    differentiate: Callable[..., tuple[Arrays, Any]],
    params: Arrays,
    rest: Arrays,
    parts: Batch,
    slices: int,
) -> tuple[Arrays, tuple[LossSums, Arrays, dict[str, Array]]]:
    """Gradients and sums added over the slices, reports averaged."""

    def body(carry: Any, numbered: tuple[Batch, Array]) -> tuple[Any, Any]:
        gradients, rest = carry
        more, (sums, rest, reports) = differentiate(params, rest, *numbered)
        return (jax.tree.map(jnp.add, gradients, more), rest), (sums, reports)

    zeros = jax.tree.map(jnp.zeros_like, params)
    (gradients, rest), (sums, reports) = jax.lax.scan(
        body, (zeros, rest), (parts, jnp.arange(slices))
    )
    auxiliary = jnp.mean(sums.auxiliary)
    sums = jax.tree.map(lambda a: jnp.sum(a, axis=0), sums)
    reports = jax.tree.map(lambda a: jnp.mean(a, axis=0), reports)
    return gradients, (sums._replace(auxiliary=auxiliary), rest, reports)


def _slices(batch: Batch, mesh: Mesh, slices: int) -> Batch:
    """The batch as `slices` parts along a new first axis.

    Neighbouring rows go to different parts: every device keeps the rows it has.
    """
    place = NamedSharding(mesh, PartitionSpec(None, BATCH_AXES))

    def split(a: Array) -> Array:
        parts = a.reshape(a.shape[0] // slices, slices, *a.shape[1:]).swapaxes(0, 1)
        return jax.lax.with_sharding_constraint(parts, place)

    return jax.tree.map(split, batch)
