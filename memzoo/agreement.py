"""Comparisons of a layer's results with the results that a law requires."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

TOLERANCE = 3e-5


class BrokenLaw(AssertionError):
    """Violation of a law by a layer; the message names both."""


def near(got: Any, want: Any, what: str) -> None:
    """Check that two trees of arrays are equal up to rounding.

    Args:
        what: the arrays in words.

    Raises:
        BrokenLaw: an array differs; names the difference relative to its size.
    """
    for path, (a, b) in _pairs(got, want):
        scale = max(1.0, float(np.max(np.abs(b), initial=0.0)))
        error = float(np.max(np.abs(a - b), initial=0.0)) / scale
        if not error <= TOLERANCE:
            raise BrokenLaw(f"{what}{path} differ by {error:.1e} of their size")


def equal(got: Any, want: Any, what: str) -> None:
    """Check that two trees of arrays are equal bit for bit.

    Raises:
        BrokenLaw: an array differs.
    """
    for path, (a, b) in _pairs(got, want):
        if not np.array_equal(a, b):
            error = float(np.max(np.abs(a - b)))
            raise BrokenLaw(f"{what}{path} are not equal bit for bit ({error:.1e})")


def _pairs(got: Any, want: Any) -> Iterator[tuple[str, tuple[Any, Any]]]:
    paths = jax.tree_util.tree_leaves_with_path(want)
    for (path, b), a in zip(paths, jax.tree.leaves(got), strict=True):
        yield (
            jax.tree_util.keystr(path),
            (np.asarray(a, np.float64), np.asarray(b, np.float64)),
        )
