"""What a write to a neural memory is, and the memory that it changes."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from memzoo.errors import InputError

from .memory_network import MemoryNetwork, Weights
from .recurrence import select


@dataclass(frozen=True, kw_only=True)
class WriteRule:
    """What a write is.

    Attributes:
        update_every: tokens of a window, whose gradients are all taken at the weights
            before it.
        read: `after` or `before` the token's own write.
        loss: `full`: ||error||^2; `half`: half of it.
        loss_window: tokens whose losses are summed at every token (the Omega rule of
            ATLAS, arXiv 2505.23735, with equal weights); 1: the token's own.
        clip: largest norm of a token's gradient, over all weights of a head; None: any.
        scale_by_place: divide the learning rate by the token's place in its window,
            counted from 1.
        keep_row_norms: at the start of every window, give each row of each matrix the
            norm that it had in a new memory.
        schedule: `titans`, or `window` (TTT).
    """

    update_every: int = 64
    read: Literal["after", "before"] = "after"
    loss: Literal["full", "half"] = "full"
    loss_window: int = 1
    clip: float | None = None
    scale_by_place: bool = False
    keep_row_norms: bool = False
    schedule: Literal["titans", "window"] = "titans"

    def __post_init__(self) -> None:
        for name in ("update_every", "loss_window"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; give at least 1")
        if self.clip is not None and self.clip <= 0:
            raise InputError(f"clip is {self.clip}; give a positive norm, or None")


class Recent(NamedTuple):
    """The last tokens of the document, for a loss over several; the last one last."""

    key: Float[Array, "b h w k"]
    value: Float[Array, "b h w v"]


class NeuralMemory(NamedTuple):
    """The memory of each head, float32.

    Attributes:
        weights: of the network.
        momentum: of the weights; None: the rule has none.
        anchor: weights before the window; None where a window is one token, and in a
            memory that is read and written in one call alone.
        recent: tokens that the loss still counts; None: it counts one.
        position: number of tokens of the document so far.
    """

    weights: Weights
    momentum: Weights | None
    anchor: Weights | None
    recent: Recent | None
    position: Int[Array, "b"]


def new_memory(
    weights: Weights,
    network: MemoryNetwork,
    rule: WriteRule,
    *,
    momentum: bool,
    carried: bool = True,
) -> NeuralMemory:
    """The memory that holds `weights` and has read nothing.

    Args:
        weights: of the network.
        network: whose weights they are.
        rule: of the writes.
        momentum: whether the gates have one.
        carried: the memory can be carried from one call to the next; without it no
            anchor is kept, which is faster.
    """
    rows, heads = next(iter(weights.values())).shape[:2]
    dtype = next(iter(weights.values())).dtype
    zeros = jax.tree.map(jnp.zeros_like, weights)
    recent = None
    if rule.loss_window > 1:
        shape = (rows, heads, rule.loss_window - 1)
        recent = Recent(
            jnp.zeros((*shape, network.key_size), dtype),
            jnp.zeros((*shape, network.value_size), dtype),
        )
    return NeuralMemory(
        weights=weights,
        momentum=zeros if momentum or rule.schedule == "window" else None,
        anchor=weights if carried and rule.update_every > 1 else None,
        recent=recent,
        position=jnp.zeros((rows,), jnp.int32),
    )


def memory_type(memory: NeuralMemory) -> jnp.dtype:
    """The type of the weights, that of all sums."""
    return next(iter(memory.weights.values())).dtype


def open_window(
    memory: NeuralMemory, rows: Bool[Array, "b"], rule: WriteRule, new: Weights
) -> NeuralMemory:
    """The memory at the start of a window, in the given rows.

    Args:
        memory: after the window before.
        rows: where a window begins.
        rule: of the writes.
        new: weights of a new memory.
    """
    weights, momentum, anchor = memory.weights, memory.momentum, memory.anchor
    if rule.keep_row_norms:
        weights = select(rows, row_norms_of(weights, new), weights)
    if rule.schedule == "window":
        momentum = select(rows, jax.tree.map(jnp.zeros_like, momentum), momentum)
    if anchor is not None:
        anchor = select(rows, weights, anchor)
    return memory._replace(weights=weights, momentum=momentum, anchor=anchor)


def row_norms_of(weights: Weights, like: Weights) -> Weights:
    """The weights, every row of a matrix with the norm of its row in `like`."""

    def norm(x: Array) -> Array:
        return jnp.sqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + 1e-12)

    return {
        name: w * (norm(like[name]) / norm(w)) if w.ndim == 4 else w
        for name, w in weights.items()
    }
