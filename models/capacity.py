"""Capacity of a state: the tokens of one document that fit into it."""

from collections.abc import Iterable
from typing import Any

import jax
from jax.core import Tracer

from memzoo.errors import InputError


def smallest_capacity(capacities: Iterable[int | None]) -> int | None:
    """Return the capacity of a layer from its parts'; see `MemoryLayer.capacity`."""
    return min((each for each in capacities if each is not None), default=None)


def is_known(array: Any) -> bool:
    """Return whether values are readable: not traced, and not on another host."""
    if isinstance(array, Tracer):
        return False
    return not isinstance(array, jax.Array) or array.is_fully_addressable


def check_slots(max_length: int) -> None:
    """Raise InputError if a state is asked for a negative number of tokens."""
    if max_length < 0:
        raise InputError(f"max_length is {max_length}; give 0 (for one call) or more")


def no_room(name: str, capacity: int, longest: int) -> InputError:
    """Return the error for a document of `longest` tokens."""
    remedy = f"give init_state a max_length of at least {longest}"
    if capacity == 0:
        return InputError(
            f"{name}: the state was made with max_length 0, for one call, and cannot "
            f"be carried on; {remedy}"
        )
    return InputError(
        f"{name}: the document would reach {longest} tokens, but its state was "
        f"allocated for {capacity}; {remedy}"
    )
