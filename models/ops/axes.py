"""Checks of the arrays that an operation is given: floats, with named axes."""

import typing
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import PyTree

from memzoo.errors import InputError, with_article


def check_axes(
    kind: type,
    tokens: Any,
    memory_axes: PyTree[str] = (),
    memory: Any = (),
    several: bool = False,
) -> dict[str, int]:
    """Return the length of every axis; each axis must have one length.

    An axis written `#k`, as in jaxtyping, has the length of k or 1.

    Args:
        kind: class of the tokens; its annotations name the axes of every field.
        tokens: tokens to check; fields that are None are skipped.
        memory_axes: names of the memory's axes, one string per array.
        memory: memory to check.
        several: True if the memory has an axis `m` after `b`.

    Raises:
        InputError: an array has the wrong number of axes, or an axis has two lengths.
    """
    arrays = {
        name: (axes, getattr(tokens, name)) for name, axes in _axes_of(kind).items()
    }
    for path, axes in jax.tree_util.tree_leaves_with_path(memory_axes):
        name = "memory" + jax.tree_util.keystr(path)
        held = memory
        for key in path:
            held = getattr(held, key.name) if hasattr(key, "name") else held[key.idx]
        arrays[name] = (axes.replace("b ", "b m ", 1) if several else axes, held)
    lengths: dict[str, tuple[int, str]] = {}
    for name, (axes, array) in arrays.items():
        if array is None:
            continue
        names = axes.split()
        if not hasattr(array, "ndim"):
            found = with_article(type(array).__name__)
            raise InputError(f"{name} is {found}; give an array")
        if array.ndim != len(names):
            raise InputError(
                f"{name} has shape {array.shape}; give it the axes `{axes}`"
            )
        for given, length in zip(names, array.shape, strict=True):
            axis = given.lstrip("#")
            if given != axis and length == 1:
                continue
            known, first = lengths.setdefault(axis, (length, name))
            if known != length:
                raise InputError(
                    f"axis {axis} is {length} in {name} {array.shape} and {known} in "
                    f"{first}; {name} has the axes `{axes}`, so check their order"
                )
    return {axis: length for axis, (length, _) in lengths.items()}


def float_array(name: str, given: Any) -> Any:
    """Return an array of floats for JAX; None stays None.

    Raises:
        InputError: the given object is no array, or one of other numbers.
    """
    if given is None:
        return None
    if not hasattr(given, "dtype"):
        found = with_article(type(given).__name__)
        raise InputError(f"{name} is {found}; give an array")
    if not jnp.issubdtype(given.dtype, jnp.floating):
        raise InputError(f"{name} is {given.dtype}; give floats")
    return jnp.asarray(given)


def is_known(array: Any) -> bool:
    """Return whether values are readable: not traced, and not on another host."""
    if isinstance(array, Tracer):
        return False
    return not isinstance(array, jax.Array) or array.is_fully_addressable


@lru_cache(maxsize=64)
def _axes_of(kind: type) -> dict[str, str]:
    """Return the names of every field's axes, from its jaxtyping annotation."""
    found = {}
    for name, hint in typing.get_type_hints(kind).items():
        for each in (hint, *typing.get_args(hint)):
            if hasattr(each, "dim_str"):
                found[name] = each.dim_str
    return found
