"""Checks that layer configs share; each raises an InputError of one line."""

import math
from collections.abc import Collection

from memzoo.errors import InputError


def resolve_head_size(width: int, num_heads: int, head_size: int | None) -> int:
    """Return the head size; if it is None, divide the width among the heads."""
    if num_heads < 1:
        raise InputError(f"num_heads is {num_heads}; give 1 or more")
    if head_size is not None:
        if head_size < 1:
            raise InputError(f"head_size is {head_size}; give 1 or more, or None")
        return head_size
    if width % num_heads:
        raise InputError(
            f"num_heads {num_heads} does not divide width {width}; "
            "choose a divisor or set head_size"
        )
    return width // num_heads


def check_convolution(convolution_size: int) -> None:
    if convolution_size < 0 or convolution_size == 1:
        raise InputError(
            f"convolution_size is {convolution_size}; give 0 (none) or 2 taps or more"
        )


def check_chunk_size(chunk_size: int | None) -> None:
    if chunk_size is not None and chunk_size < 1:
        raise InputError(f"chunk_size is {chunk_size}; give 1 or more, or None")


def check_positive(name: str, value: float) -> None:
    if value == math.inf:
        raise InputError(f"{name} is {value}; give a finite number above 0")
    if not value > 0:
        raise InputError(f"{name} is {value}; give a number above 0")


def check_rotary_base(base: float) -> None:
    if not base > 1 or base == math.inf:
        raise InputError(f"rotary_base is {base}; give a finite number above 1")


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    if value not in choices:
        raise InputError(f"{name} is {value!r}; choose one of {', '.join(choices)}")


def check_even(name: str, value: int, why: str) -> None:
    if value % 2:
        raise InputError(f"{name} is {value}, which is odd; make it even ({why})")
