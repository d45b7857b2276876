"""Routing of each token to a few memories, and slots that group tokens by memory.

A row's slots are split into chunks of `chunk_size`. Each memory has as many chunks as
its tokens fill, one memory after the other, with its tokens in time order: a stable
counting sort by memory. So a token's place within its chunk depends only on earlier
tokens, no token is dropped, and the number of chunks is known before routing.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped


class Routing(NamedTuple):
    """Which memories a token writes and reads.

    Attributes:
        chosen: chosen memories, the most probable first; ties go to the lowest index.
        weight: probabilities of the chosen memories, normalised to sum to 1.
        probability: probability of every memory.
    """

    chosen: Int[Array, "b t top"]
    weight: Float[Array, "b t top"]
    probability: Float[Array, "b t m"]


class Slots(NamedTuple):
    """Slots of tokens grouped by memory.

    Attributes:
        pair: index token x top + choice of the pair in each slot; -1: empty.
        place: slot of each token in each memory; -1: none.
        which: memory of each chunk. Empty chunks at the end belong to the last memory.
    """

    pair: Int[Array, "b s"]
    place: Int[Array, "b t m"]
    which: Int[Array, "b n"]


def route(logits: Float[Array, "b t m"], top_k: int) -> Routing:
    """Return the `top_k` most probable memories of each token."""
    # Compare logits: they still differ where probabilities underflow.
    best, chosen = jax.lax.top_k(logits, top_k)
    weight = jax.nn.softmax(best, axis=-1)
    return Routing(chosen, weight, jax.nn.softmax(logits, axis=-1))


def selected(
    chosen: Int[Array, "b t top"], num_memories: int, valid: Bool[Array, "b t"] | None
) -> Bool[Array, "b t m"]:
    """Return a mask of the memories that each real token chose."""
    memory = jnp.arange(num_memories)[None, None, None, :]
    there = jnp.any(chosen[..., None] == memory, axis=2)
    return there if valid is None else jnp.logical_and(there, valid[:, :, None])


def weight_by_memory(routing: Routing, num_memories: int) -> Float[Array, "b t m"]:
    """Return the weight of every memory, 0 if it was not chosen."""
    memory = jnp.arange(num_memories)[None, None, None, :]
    there = routing.chosen[..., None] == memory
    return jnp.sum(jnp.where(there, routing.weight[..., None], 0), axis=2)


def num_chunks(time: int, top_k: int, num_memories: int, chunk_size: int) -> int:
    """Return a number of chunks that is enough for any routing."""
    return (time * top_k + num_memories * (chunk_size - 1)) // chunk_size


def assign_slots(
    chosen: Int[Array, "b t top"],
    there: Bool[Array, "b t m"],
    chunk_size: int | None,
) -> Slots:
    """Assign slots to all tokens.

    Args:
        chosen: distinct memories of each token.
        there: the same as a mask, false for padding.
        chunk_size: slots per chunk. None: every memory has one chunk, with a slot for
            each token of the row.
    """
    batch, time, top_k = chosen.shape
    num_memories = there.shape[2]
    rank = jnp.cumsum(there, axis=1, dtype=jnp.int32) - 1
    if chunk_size is None:
        count, chunk_size = num_memories, max(time, 1)
        start = jnp.arange(num_memories, dtype=jnp.int32)[None, :]
        which = jnp.broadcast_to(start, (batch, num_memories))
    else:
        count = num_chunks(time, top_k, num_memories, chunk_size)
        used = -(-jnp.sum(there, axis=1, dtype=jnp.int32) // chunk_size)
        end = jnp.cumsum(used, axis=1, dtype=jnp.int32)
        start = end - used
        index = jnp.arange(count, dtype=jnp.int32)[None, :, None]
        which = jnp.sum(index >= end[:, None, :], axis=2, dtype=jnp.int32)
        which = jnp.minimum(which, num_memories - 1)
    place = jnp.where(there, start[:, None, :] * chunk_size + rank, -1)
    of_choice = jnp.take_along_axis(place, chosen, axis=2)
    of_choice = of_choice.reshape(batch, time * top_k)
    outside = count * chunk_size
    pair = jnp.full((batch, outside), -1, jnp.int32)
    pair = pair.at[
        jnp.arange(batch)[:, None], jnp.where(of_choice >= 0, of_choice, outside)
    ].set(jnp.arange(time * top_k, dtype=jnp.int32)[None, :], mode="drop")
    return Slots(pair, place, which)


def slot_resets(
    slots: Slots, reset: Bool[Array, "b t"], top_k: int
) -> tuple[Bool[Array, "b s"], Bool[Array, "b m"]]:
    """Return document starts as each memory sees them.

    Args:
        slots: slots of the tokens.
        reset: True where a document begins.
        top_k: number of memories per token.

    Returns:
        Slots before which a document began since the memory's last token, and memories
        that no token has reached since the last document began.
    """
    segment = jnp.cumsum(reset, axis=1, dtype=jnp.int32)
    token = jnp.maximum(slots.pair, 0) // top_k
    here = jnp.take_along_axis(segment, token, axis=1)
    # The first slot of a memory follows the carried document, which is segment 0.
    before = jnp.pad(here[:, :-1], ((0, 0), (1, 0)))
    size = slots.pair.shape[1] // max(slots.which.shape[1], 1)
    opens = jnp.pad(
        slots.which[:, 1:] != slots.which[:, :-1],
        ((0, 0), (1, 0)),
        constant_values=True,
    )
    first = opens[:, :, None] & (jnp.arange(size) == 0)[None, None, :]
    before = jnp.where(first.reshape(here.shape), 0, before)
    starts = jnp.logical_and(slots.pair >= 0, here != before)
    reached = jnp.max(
        jnp.where(slots.place >= 0, segment[:, :, None], 0), axis=1, initial=0
    )
    return starts, reached != jnp.max(segment, axis=1, initial=0)[:, None]


def tokens_to_slots(
    x: Float[Array, "b t *x"], slots: Slots, chosen: Int[Array, "b t top"]
) -> Float[Array, "b s *x"]:
    """Return the values of each slot's token; zero for an empty slot."""
    token = jnp.where(slots.pair < 0, -1, slots.pair // chosen.shape[2])
    return move(x, token, jnp.take_along_axis(slots.place, chosen, axis=2))


def memories_to_slots(
    x: Float[Array, "b m t *x"], slots: Slots, top_k: int
) -> Float[Array, "b s *x"]:
    """Return the values of each slot's token for its memory; zero for an empty slot."""
    batch, num_memories, time = x.shape[:3]
    size = slots.pair.shape[1] // max(slots.which.shape[1], 1)
    memory = jnp.repeat(slots.which, size, axis=1)
    source = jnp.where(slots.pair < 0, -1, memory * time + slots.pair // top_k)
    back = jnp.swapaxes(slots.place, 1, 2).reshape(batch, num_memories * time, 1)
    return move(x.reshape(batch, num_memories * time, *x.shape[3:]), source, back)


def slots_to_choices(
    y: Float[Array, "b s *x"], slots: Slots, chosen: Int[Array, "b t top"]
) -> Float[Array, "b t top *x"]:
    """Return the values in each token's slots; zero for tokens without a slot."""
    batch, time, top_k = chosen.shape
    place = jnp.take_along_axis(slots.place, chosen, axis=2)
    moved = move(y, place.reshape(batch, time * top_k), slots.pair[:, :, None])
    return moved.reshape(batch, time, top_k, *y.shape[2:])


@jax.custom_vjp
def move(
    x: Shaped[Array, "b i *x"], source: Int[Array, "b o"], back: Int[Array, "b i r"]
) -> Shaped[Array, "b o *x"]:
    """Return y[b, o] = x[b, source[b, o]], zero where the source is -1.

    Args:
        x: array to move.
        source: source index of each output.
        back: all outputs o of each input i, padded with -1. With it the gradient is a
            gather too, which XLA runs many times faster than a scatter-add.
    """
    return _take(x, source)


def _take(x: Array, source: Array) -> Array:
    # Flatten to one list of rows: XLA:CPU gathers whole rows three times faster than
    # the same elements along an axis.
    batch, size = x.shape[:2]
    first = size * jnp.arange(batch, dtype=source.dtype)[:, None]
    index = (jnp.maximum(source, 0) + first).reshape(-1)
    if not batch * size:
        return jnp.zeros((*source.shape, *x.shape[2:]), x.dtype)
    rows = x.reshape(batch * size, -1)
    y = rows.at[index].get(mode="promise_in_bounds")
    y = jnp.where((source >= 0).reshape(-1, 1), y, jnp.zeros_like(y))
    return y.reshape(*source.shape, *x.shape[2:])


def _forward(x: Array, source: Array, back: Array) -> tuple[Array, Array]:
    return _take(x, source), back


def _backward(back: Array, cotangent: Array) -> tuple[Array | None, None, None]:
    if cotangent.dtype == jax.dtypes.float0:
        return None, None, None  # integers and masks have no gradient
    parts = [_take(cotangent, back[:, :, r]) for r in range(back.shape[2])]
    return sum(parts[1:], parts[0]), None, None


move.defvjp(_forward, _backward)
