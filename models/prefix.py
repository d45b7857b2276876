"""Prefixes, which a memory reads whole before the document's first token."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from .memory_inputs import MemoryInputs


def insert_prefixes(
    written: MemoryInputs,
    inputs: MemoryInputs,
    prefix: Bool[Array, "b t"],
    reset: Bool[Array, "b t"] | None,
) -> tuple[MemoryInputs, Bool[Array, "b s"], Int[Array, "b t"]]:
    """Return a sequence twice as long, each document's prefix written before it.

    Args:
        written: inputs of the prefix; ignored at other tokens.
        inputs: inputs of all tokens, with the same fields.
        prefix: mask of the prefix tokens.
        reset: True where a document begins; None: one document per row.

    Returns:
        The longer sequence, its document starts, and the index in it of every token of
        `inputs`.
    """
    time = prefix.shape[1]
    reset = jnp.zeros_like(prefix) if reset is None else reset
    real = jnp.ones_like(prefix) if inputs.valid is None else inputs.valid
    document = jnp.cumsum(reset, axis=1, dtype=jnp.int32)
    # Tokens outside a prefix write nothing and move to the row's end.
    last = document[:, -1:]
    ahead = jnp.where(prefix, document, last)
    key = jnp.where(prefix, 2 * document, 2 * last + 2)
    key = jnp.concatenate([key, 2 * document + 1], axis=1)
    order = jnp.argsort(key, axis=1, stable=True)
    document = jnp.concatenate([ahead, document], axis=1)
    document = jnp.take_along_axis(document, order, axis=1)
    before = jnp.pad(document, ((0, 0), (1, 0)))[:, :-1]

    def merge(first: Array, second: Array) -> Array:
        both = jnp.concatenate([first, second.astype(first.dtype)], axis=1)
        index = order.reshape(order.shape + (1,) * (both.ndim - 2))
        return jnp.take_along_axis(both, index, axis=1)

    unread = written.with_query(jnp.zeros_like(inputs.query))
    longer = jax.tree.map(
        merge,
        unread._replace(skip=None, valid=prefix),
        inputs._replace(skip=None, valid=real),
    )
    place = jnp.argsort(order, axis=1)[:, time:]
    return longer, document != before, place
