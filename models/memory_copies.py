"""Copies of a memory that share all parameters except the per-memory ones."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PyTree

from .associative_memory import AssociativeMemory, AssociativeState
from .interface import Layout
from .projection import PerMemory

# Tails of one copy, or of all copies: then per-copy tails are `b m w d`.
Tails = tuple[Array, ...]


class OwnMaps(nnx.Module):
    """The per-memory parameters of one copy, named as in the layer."""

    def __init__(self, state: Any):
        for path, variable in nnx.to_flat_state(state):
            holder = self
            for name in path[:-1]:
                if not hasattr(holder, str(name)):
                    setattr(holder, str(name), nnx.Module())
                holder = getattr(holder, str(name))
            setattr(holder, str(path[-1]), PerMemory(variable.get_value()))

    def at(self, path: tuple[Any, ...]) -> nnx.Param:
        """Return the parameter at a path of the layer."""
        found: Any = self
        for name in path:
            found = getattr(found, str(name))
        return found


def _split(layer: AssociativeMemory) -> tuple[Any, Any, Any]:
    """Return the layer's structure, its per-memory parameters and all others."""
    graphdef, own, rest = nnx.split(layer, PerMemory, ...)
    return graphdef, own, rest


def own_maps(layer: AssociativeMemory) -> OwnMaps:
    """Return the per-memory parameters of a layer."""
    return OwnMaps(_split(layer)[1])


def stack_copies(layers: Sequence[AssociativeMemory]) -> AssociativeMemory:
    """Return the first layer with all copies' per-memory parameters on axis 0."""
    graphdef, first, rest = _split(layers[0])
    others = [_split(layer)[1] for layer in layers[1:]]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), first, *others)
    return nnx.merge(graphdef, stacked, rest)


def one_copy(layer: AssociativeMemory, maps: OwnMaps) -> AssociativeMemory:
    """Return the layer with the given per-memory parameters."""
    graphdef, own, rest = _split(layer)
    flat = [(path, maps.at(path)) for path, _ in nnx.to_flat_state(own)]
    return nnx.merge(graphdef, nnx.from_flat_state(flat), rest)


def state_for(tails: Tails, position: Array) -> AssociativeState:
    """Return a state for `inputs`, without a memory."""
    return AssociativeState(None, tails, position)


def inputs_of_copies(
    layer: AssociativeMemory,
    x: Float[Array, "b t d"],
    tails: Tails,
    position: Array,
    layout: Layout,
) -> tuple[Any, Tails]:
    """Return `inputs` of every copy, and the new tails.

    Args:
        layer: stacked copies.
        tails: tails; those of per-memory streams have the copies as second axis.

    Returns:
        Inputs with shared queries `b t ...` and all other fields `b m t ...`.
    """
    graphdef, own, rest = _split(layer)

    axes = tail_axes(layer, tails)
    mine = tuple(
        jnp.moveaxis(tail, axis, 0)
        for tail, axis in zip(tails, axes, strict=True)
        if axis is not None
    )

    def one(own: Any, mine: tuple[Array, ...]) -> tuple[Any, Tails]:
        copy = nnx.merge(graphdef, own, rest)
        before = with_own_tails(layer, tails, mine)
        return copy.inputs(x, state_for(before, position), layout)

    def rest_of(each: tuple[Any, tuple[Array, ...]]) -> tuple[Any, tuple[Array, ...]]:
        inputs, after = one(*each)
        return inputs.with_query(None), own_tails(layer, after)

    # A loop runs the plain layer's program, which XLA:CPU executes several times
    # faster than the same program with one more axis.
    inputs, after = jax.lax.map(rest_of, (own, mine))
    first, shared = one(*jax.tree.map(lambda a: a[0], (own, mine)))
    inputs = jax.tree.map(lambda a: jnp.moveaxis(a, 0, 1), inputs)
    after = with_own_tails(
        layer, shared, tuple(jnp.moveaxis(tail, 0, 1) for tail in after)
    )
    return inputs.with_query(first.query), after


def query_of_copies(
    layer: AssociativeMemory,
    x: Float[Array, "b t d"],
    position: Array,
    layout: Layout,
) -> Float[Array, "b t h k"]:
    """Return the queries, shared by all copies; the layer has no short convolution."""
    graphdef, own, rest = _split(layer)
    first = nnx.merge(graphdef, jax.tree.map(lambda a: a[0], own), rest)
    return first.inputs(x, state_for((), position), layout)[0].query


def inputs_of_slots(
    layer: AssociativeMemory,
    x: Float[Array, "b s d"],
    place: Int[Array, "b s"],
    which: Int[Array, "b n"],
) -> Any:
    """Return `inputs` without queries, computed by one copy per chunk.

    For layers without short convolutions only: their inputs depend on one token each.

    Args:
        layer: stacked copies.
        x: tokens in slots.
        place: position of each token in its document.
        which: index of the copy for each chunk.
    """
    graphdef, own, rest = _split(layer)
    batch, slots = place.shape
    chunks, size = which.size, slots // max(which.shape[1], 1)

    def one(each: tuple[Any, Array, Array]) -> Any:
        own, x, place = each
        # Each token is a separate row, so that it can have any position.
        copy = nnx.merge(graphdef, own, rest)
        inputs, _ = copy.inputs(x[:, None], state_for((), place), Layout())
        return inputs.with_query(None)

    inputs = jax.lax.map(
        one,
        (
            jax.tree.map(lambda a: a[which.reshape(-1)], own),
            x.reshape(chunks, size, x.shape[2]),
            place.reshape(chunks, size),
        ),
    )
    # Axes: chunk, slot and the row's single token.
    return jax.tree.map(lambda a: a.reshape(batch, slots, *a.shape[3:]), inputs)


def tail_axes(layer: AssociativeMemory, tails: Tails) -> Any:
    """Return the axis of the copies in each tail; None if all copies share it."""
    names = getattr(tails, "_fields", None)
    if names is None:
        return tuple(1 for _ in tails)
    return _rebuild(
        tails, (1 if name in layer.tails_of_copies else None for name in names)
    )


def spread_tails(layer: AssociativeMemory, tails: Tails, copies: int) -> Tails:
    """Return the tails of several copies from those of one."""

    def spread(tail: Array, axis: int | None) -> Array:
        return tail if axis is None else jnp.stack([tail] * copies, axis=axis)

    return _rebuild(tails, map(spread, tails, tail_axes(layer, tails)))


def own_tails(layer: AssociativeMemory, tails: Tails) -> tuple[Array, ...]:
    """Return the tails that copies do not share."""
    axes = tail_axes(layer, tails)
    return tuple(
        tail for tail, axis in zip(tails, axes, strict=True) if axis is not None
    )


def with_own_tails(
    layer: AssociativeMemory, tails: Tails, own: tuple[Array, ...]
) -> Tails:
    """Return the tails of one copy: shared ones from `tails`, the rest its own."""
    left = iter(own)
    return _rebuild(
        tails,
        (
            tail if axis is None else next(left)
            for tail, axis in zip(tails, tail_axes(layer, tails), strict=True)
        ),
    )


def _rebuild(tails: PyTree, values: Any) -> Any:
    return type(tails)(*values) if hasattr(tails, "_fields") else tuple(values)
