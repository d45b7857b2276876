"""Capacity of a state: the tokens of one document that fit into it."""

from collections.abc import Iterable
from numbers import Integral
from typing import Any

from memzoo.errors import InputError

from .ops.axes import is_known as is_known


def smallest_capacity(capacities: Iterable[int | None]) -> int | None:
    """Return the capacity of a layer from its parts'; see `MemoryLayer.capacity`."""
    return min((each for each in capacities if each is not None), default=None)


def check_size(name: str, value: Any, least: int = 0) -> None:
    """Raise InputError unless the value is a whole number that is large enough."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise InputError(f"{name} is {value!r}; give a whole number")
    if isinstance(value, Integral) and value < least:
        raise InputError(f"{name} is {value}; give {least} or more")


def check_slots(max_length: int) -> None:
    """Raise InputError if a state is asked for a negative number of tokens."""
    if max_length < 0:
        raise InputError(f"max_length is {max_length}; give 0 (for one call) or more")


def no_room(name: str, capacity: int, longest: int) -> InputError:
    """Return the error for a document of `longest` tokens."""
    remedy = (
        f"give max_length={longest} or more to init_state, or to the call that begins "
        "the document"
    )
    if capacity == 0:
        return InputError(
            f"{name}: the state was made with max_length 0, for one call, and cannot "
            f"be continued; {remedy}"
        )
    return InputError(
        f"{name}: the document would reach {longest} tokens, but its state was "
        f"allocated for {capacity}; {remedy}"
    )
