"""Scores of all targets of a task, from one pass of a model over it."""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int, Int32

from memzoo.errors import InputError

from ..data.batch import Batch
from ..models.interface import SequenceInfo

# Bounds how many targets have their logits in memory at once.
_TARGETS_AT_ONCE = 16_384


@runtime_checkable
class Model(Protocol):
    """Language model (an `nnx.Module`) that the measures accept."""

    def init_state(self, batch_size: int, max_length: int) -> Any: ...

    def hidden(
        self,
        tokens: Int[Array, "b t"],
        state: Any,
        info: SequenceInfo | None = None,
    ) -> tuple[Float[Array, "b t d"], Any]: ...

    def logits(self, hidden: Float[Array, "..."]) -> Float[Array, "..."]: ...


class Scores(NamedTuple):
    """Scores of every target of a number of rows.

    Attributes:
        nats: negative log-probability of the target.
        correct: whether the target is the most probable token.
        weights: weight of the target; 0 means no target.
        context: tokens of the document read when the target is predicted, counting the
            current one.
    """

    nats: Float32[np.ndarray, "b n"]
    correct: Bool[np.ndarray, "b n"]
    weights: Float32[np.ndarray, "b n"]
    context: Int32[np.ndarray, "b n"]

    def mean(self, values: np.ndarray) -> float:
        """Return the weighted mean of one number per target, summed in float64.

        The mean is not finite if a value with nonzero weight is not finite.
        """
        weights = self.weights.astype(np.float64)
        # Values with weight 0 may be NaN or infinite.
        values = np.where(weights == 0, 0, values)
        with np.errstate(invalid="ignore"):
            return float(np.sum(values * weights) / np.sum(weights))


def score(model: Model, batches: Iterable[Batch]) -> Scores:
    """Score every target of the batches, in order.

    Batches of one shape compile once, also for other models of the same architecture.
    Equal parameters give equal numbers, bit for bit, on one machine.

    Args:
        model: a language model; it is not changed.
        batches: batches of rows, all with the same number of targets.

    Raises:
        InputError: there is no batch.
    """
    graphdef, parameters = nnx.split(model)
    parts = []
    for batch in batches:
        nats, correct = _score(graphdef, parameters, batch)
        parts.append(
            Scores(
                np.asarray(nats),
                np.asarray(correct),
                np.asarray(batch.target_weights),
                _context(batch),
            )
        )
    if not parts:
        raise InputError("there is no batch to score; give the split some rows")
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


@functools.partial(jax.jit, static_argnums=0)
def _score(
    graphdef: Any, parameters: Any, batch: Any
) -> tuple[Float32[Array, "b n"], Bool[Array, "b n"]]:
    model = nnx.merge(graphdef, parameters)
    info = None
    masks = (batch.reset, batch.valid, batch.prefix)
    if any(mask is not None for mask in masks):
        info = SequenceInfo(*masks)
    state = model.init_state(batch.tokens.shape[0], 0)
    hidden, _ = model.hidden(batch.tokens, state, info)
    if batch.target_positions is not None:
        where = batch.target_positions[:, :, None]
        hidden = jnp.take_along_axis(hidden, where, axis=1)
    return score_targets(model, hidden, batch.targets)


def score_targets(
    model: Model, hidden: Float[Array, "b n d"], targets: Int[Array, "b n"]
) -> tuple[Float32[Array, "b n"], Bool[Array, "b n"]]:
    """Return each target's negative log-probability and whether it is the most
    probable.

    Scores a few columns at a time, because all logits at once may not fit.
    """
    rows, columns = targets.shape
    width = max(1, min(columns, _TARGETS_AT_ONCE // rows))
    missing = -columns % width
    hidden = jnp.pad(hidden, ((0, 0), (0, missing), (0, 0)))
    targets = jnp.pad(targets, ((0, 0), (0, missing)))

    def columns_first(a: Array) -> Array:
        split = a.reshape(rows, -1, width, *a.shape[2:])
        return jnp.swapaxes(split, 0, 1)

    def one(part: tuple[Array, Array]) -> tuple[Array, Array]:
        h, target = part
        logits = model.logits(h).astype(jnp.float32)
        chosen = jnp.take_along_axis(logits, target[:, :, None], axis=2)[:, :, 0]
        nats = jax.nn.logsumexp(logits, axis=2) - chosen
        return nats, jnp.argmax(logits, axis=2) == target

    parts = (columns_first(hidden), columns_first(targets))
    nats, correct = jax.lax.map(one, parts)

    def rows_first(a: Array) -> Array:
        return jnp.swapaxes(a, 0, 1).reshape(rows, -1)[:, :columns]

    return rows_first(nats), rows_first(correct)


def _context(batch: Batch) -> Int32[np.ndarray, "b n"]:
    """Return the position of every target in its document, counted from 1."""
    rows, time = batch.tokens.shape
    index = np.arange(time, dtype=np.int32)
    place = np.broadcast_to(index, (rows, time))
    if batch.reset is not None:
        start = np.maximum.accumulate(np.where(batch.reset, index, 0), axis=1)
        place = place - start
    if batch.target_positions is not None:
        place = np.take_along_axis(place, batch.target_positions, axis=1)
    return (place + 1).astype(np.int32)
