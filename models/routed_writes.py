"""Several copies of a memory, each written by the tokens that chose it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from .associative_memory import AssociativeMemory
from .ops.routing import (
    Routing,
    assign_slots,
    memories_to_slots,
    slot_resets,
    slots_to_choices,
    tokens_to_slots,
    weight_by_memory,
)

Read = Float[Array, "b t h v"]


class Copies(NamedTuple):
    """The layer that several memories share, and the layout of their inputs.

    Attributes:
        layer: layer whose rule writes the memories.
        own: True if each memory has separate maps: all inputs but the queries are
            `b m t ...`. False: all inputs are `b t ...`, shared by the memories.
    """

    layer: AssociativeMemory
    own: bool

    def each(
        self,
        inputs: Any,
        shared: Callable[[Array], Array],
        own: Callable[[Array], Array],
    ) -> Any:
        """Return the inputs with `shared` or `own` applied, as their axes require."""
        each = jax.tree.map(own if self.own else shared, inputs.with_query(None))
        return each.with_query(shared(inputs.query))


def write_grouped(
    copies: Copies,
    inputs: Any,
    memories: PyTree[Array],
    routing: Routing,
    there: Bool[Array, "b t m"],
    reset: Bool[Array, "b t"] | None,
    *,
    chunk_size: int | None,
) -> tuple[Read, PyTree[Array]]:
    """Return mixed reads and memories, with tokens grouped into slots by memory.

    Args:
        copies: layer of the memories.
        inputs: inputs of every token, or a function that computes them in given slots.
        memories: `b m ...`, memories before the first token.
        routing: routing of the tokens.
        there: mask of the memories that each real token chose.
        reset: True where a document begins.
        chunk_size: slots per chunk; the layer's rule must support several memories per
            row. None: every memory is a separate row, all of the same length.
    """
    chosen, layer = routing.chosen, copies.layer
    slots = assign_slots(chosen, there, chunk_size)
    if callable(inputs):
        computed: Any = inputs(slots)
        grouped = computed.only(slots.pair >= 0)
    else:
        grouped = copies.each(
            inputs,
            lambda a: tokens_to_slots(a, slots, chosen),
            lambda a: memories_to_slots(a, slots, chosen.shape[2]),
        )
    starts = unreached = None
    if reset is not None:
        starts, unreached = slot_resets(slots, reset, chosen.shape[2])
    if chunk_size is None:
        # An empty slot is not always an identity token by itself.
        grouped = grouped.only(slots.pair >= 0)
        read, memories = _write_rows(layer, grouped, memories, starts)
    else:
        read, memories = layer.write_and_read_several(
            grouped, memories, slots.which, starts, chunk_size
        )
    if unreached is not None:
        memories = _renew(layer, memories, unreached)
    read = slots_to_choices(_add_skip(read, grouped), slots, chosen)
    return _mix(read, routing.weight), memories


def write_dense(
    copies: Copies,
    inputs: Any,
    memories: PyTree[Array],
    routing: Routing,
    there: Bool[Array, "b t m"],
    reset: Bool[Array, "b t"] | None,
) -> tuple[Read, PyTree[Array]]:
    """Return the same as `write_grouped`; every memory processes and masks all tokens.

    For matrix memories only: there masked tokens may lie between real ones.
    """
    batch, time, count = there.shape

    def every(a: Array) -> Array:
        return jnp.broadcast_to(a[:, None], (batch, count, *a.shape[1:]))

    def line_up(a: Array) -> Array:
        return a.reshape(batch, count * time, *a.shape[3:])

    all_of_them = copies.each(inputs, lambda a: line_up(every(a)), line_up)
    all_of_them = all_of_them.only(line_up(jnp.swapaxes(there, 1, 2)))
    starts = None if reset is None else line_up(every(reset))
    read, memories = _write_rows(copies.layer, all_of_them, memories, starts)
    read = _add_skip(read, all_of_them)
    read = jnp.moveaxis(read.reshape(batch, count, time, *read.shape[2:]), 1, 2)
    return _mix(read, weight_by_memory(routing, count)), memories


def write_token(
    copies: Copies, inputs: Any, memories: PyTree[Array], routing: Routing
) -> tuple[Read, PyTree[Array]]:
    """Return the same for one token per row, touching only the memories it chose."""
    batch, _, top_k = routing.chosen.shape
    row = jnp.repeat(jnp.arange(batch), top_k)
    chosen = routing.chosen.reshape(-1)
    # Each choice of a row becomes a separate row.
    picked = copies.each(inputs, lambda a: a[row], lambda a: a[row, chosen])
    memory = jax.tree.map(lambda a: a[row, chosen], memories)
    read, memory = copies.layer.write_and_read_token(picked, memory)
    memories = jax.tree.map(
        lambda a, new: a.at[row, chosen].set(new, unique_indices=True),
        memories,
        memory,
    )
    read = _add_skip(read, picked).reshape(batch, 1, top_k, *read.shape[2:])
    return _mix(read, routing.weight), memories


def with_skip(read: Read, inputs: Any) -> Read:
    """Return the read of one memory plus the skip term, in float32."""
    return _wide(_add_skip(read, inputs))


def _write_rows(
    layer: AssociativeMemory,
    inputs: Any,
    memories: PyTree[Array],
    reset: Bool[Array, "b s"] | None,
) -> tuple[Float[Array, "b s h v"], PyTree[Array]]:
    """Call `write_and_read` with every memory as a row."""
    batch, count = jax.tree.leaves(memories)[0].shape[:2]

    def rows(a: Array) -> Array:
        # Not -1 for the length: a batch may have no rows.
        return a.reshape(batch * count, a.shape[1] // count, *a.shape[2:])

    read, after = layer.write_and_read(
        jax.tree.map(rows, inputs),
        jax.tree.map(lambda a: a.reshape(batch * count, *a.shape[2:]), memories),
        None if reset is None else rows(reset),
    )
    after = jax.tree.map(lambda a: a.reshape(batch, count, *a.shape[1:]), after)
    return read.reshape(batch, read.shape[1] * count, *read.shape[2:]), after


def _renew(
    layer: AssociativeMemory, memories: PyTree[Array], unreached: Bool[Array, "b m"]
) -> PyTree[Array]:
    """Reset the memories that no token reached since the last document began."""
    fresh = layer.init_memory(unreached.shape[0])

    def pick(new: Array, old: Array) -> Array:
        rows = unreached.reshape(unreached.shape + (1,) * (old.ndim - 2))
        return jnp.where(rows, new[:, None].astype(old.dtype), old)

    return jax.tree.map(pick, fresh, memories)


def _add_skip(read: Float[Array, "b s h v"], inputs: Any) -> Float[Array, "b s h v"]:
    return read if inputs.skip is None else read + inputs.skip.astype(read.dtype)


def _wide(a: Array) -> Array:
    return a.astype(jnp.promote_types(a.dtype, jnp.float32))


def _mix(
    read: Float[Array, "b t e h v"], weight: Float[Array, "b t e"]
) -> Float[Array, "b t h v"]:
    # Not jnp.sum: XLA would materialise the products before it adds them.
    parts = [
        _wide(read[:, :, i]) * weight[:, :, i, None, None]
        for i in range(weight.shape[2])
    ]
    return sum(parts[1:], parts[0])
