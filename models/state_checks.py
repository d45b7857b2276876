"""Checks that a state has the class, the parts and the sizes that a layer needs."""

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from memzoo.errors import InputError, with_article

REMEDY = "give the state that this layer returned, or none"
# What two states of very different lengths have in common, every state must have.
_LENGTHS = (0, 2**16)
_known: weakref.WeakKeyDictionary[Any, dict[Any, "Needed"]] = (
    weakref.WeakKeyDictionary()
)


class Needed(NamedTuple):
    """Shapes and types of a layer's state for a short and for a long document."""

    short: Any
    long: Any


def needed_state(
    layer: Any, batch_size: int, spec_of: Callable[[Any, int, int], Any]
) -> Needed:
    """Return the shapes and types of a layer's state, without allocating.

    They are kept for the next call of the same layer.

    Args:
        layer: a layer.
        batch_size: number of rows.
        spec_of: (layer, batch_size, max_length) -> shapes and types.
    """
    specs = _known.setdefault(layer, {})
    key = (batch_size, jnp.result_type(float))
    if key not in specs:
        specs[key] = Needed(*(spec_of(layer, batch_size, n) for n in _LENGTHS))
    return specs[key]


def check_class(name: str, state: Any, needed: Needed) -> None:
    """Raise InputError unless the state has the needed class.

    Args:
        name: name of the layer, for the message.
        state: the given state.
        needed: see `needed_state`.
    """
    kind = type(needed.long)
    if not isinstance(state, kind):
        given = "None" if state is None else with_article(type(state).__name__)
        raise InputError(
            f"{name}: the state is {given}, not {with_article(kind.__name__)}; {REMEDY}"
        )


def check_sizes(name: str, state: Any, needed: Needed) -> None:
    """Raise InputError unless the state has the needed arrays.

    A part or a length that depends on the length of the document may differ.

    Args:
        name: name of the layer, for the message.
        state: the given state.
        needed: see `needed_state`.
    """
    given, short, long = map(_arrays, (state, needed.short, needed.long))
    for part in short:
        if part in long and part not in given:
            raise InputError(f"{name}: the state has no {part}; {REMEDY}")
    for part, array in given.items():
        specs = [each[part] for each in (short, long) if part in each]
        if not specs:
            raise InputError(
                f"{name}: the state has {part}, and this layer's has not; {REMEDY}"
            )
        if not hasattr(array, "dtype"):
            found = with_article(type(array).__name__)
            raise InputError(f"{name}: {part} of the state is {found}; {REMEDY}")
        shape = _common([each.shape for each in specs])
        if not _fits(array.shape, shape):
            lengths = ", ".join("any" if n is None else str(n) for n in shape)
            raise InputError(
                f"{name}: {part} of the state has shape {array.shape}, not "
                f"({lengths}); {REMEDY}"
            )
        if not _holds(array.dtype, specs[0].dtype):
            raise InputError(
                f"{name}: {part} of the state is {array.dtype}, not {specs[0].dtype}; "
                f"{REMEDY}"
            )


def _arrays(state: Any) -> dict[str, Any]:
    """Return the arrays of a state by their names, such as `tails.0`."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in leaves
    }


def _common(shapes: list[tuple[int, ...]]) -> tuple[int | None, ...]:
    """Return the lengths that all shapes share, and None for the others."""
    return tuple(
        lengths[0] if len(set(lengths)) == 1 else None
        for lengths in zip(*shapes, strict=True)
    )


def _fits(given: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    """Return whether a shape is the wanted one, where None stands for any length."""
    return len(given) == len(wanted) and all(
        wanted_length in (None, length)
        for length, wanted_length in zip(given, wanted, strict=True)
    )


def _holds(given: Any, wanted: Any) -> bool:
    """Return whether a type holds all numbers of the wanted type, of the same kind."""
    kinds = (jnp.floating, jnp.integer, jnp.bool_)
    same = all(jnp.issubdtype(given, k) == jnp.issubdtype(wanted, k) for k in kinds)
    return same and jnp.promote_types(given, wanted) == given
