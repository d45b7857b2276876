"""Numbers computed from measured rounds: ratios, errors, exponents."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Num

from memzoo.errors import InputError


class Ratio(NamedTuple):
    """Number of times that ours is faster than the peer, over the rounds."""

    median: float
    low: float
    high: float


class Errors(NamedTuple):
    """Distance from the peer on identical inputs.

    Attributes:
        output: largest absolute difference of the outputs.
        gradient: largest difference of a gradient, as a share of the peer's largest
            entry; the worst over the inputs.
    """

    output: float
    gradient: float


def paired_ratio(peer: Sequence[float], ours: Sequence[float]) -> Ratio:
    """Return median and extremes of the ratios of the rounds, peer over ours.

    The two measurements of a round directly follow each other, so other load on the
    machine affects both.

    Raises:
        InputError: there are no rounds, or the two sides have different numbers.
    """
    if not peer or len(peer) != len(ours):
        raise InputError(
            f"{len(peer)} rounds of the peer against {len(ours)} of ours; "
            "measure both in every round"
        )
    ratios = [a / b for a, b in zip(peer, ours, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def growth_exponent(times: Sequence[int], measured: Sequence[float]) -> float:
    """Return the p of `measured ~ times**p`, by least squares of the logarithms."""
    if min(measured) <= 0:
        return float("nan")
    return float(np.polyfit(np.log(times), np.log(measured), 1)[0])


def errors_between(
    peer: Mapping[str, Num[np.ndarray, "..."]],
    ours: Mapping[str, Num[np.ndarray, "..."]],
) -> Errors:
    """Compare `output` and every `gradient_<input>`.

    Raises:
        InputError: the two sides have different arrays.
    """
    if set(peer) != set(ours):
        raise InputError(
            f"these results exist on one side only: {sorted(set(peer) ^ set(ours))}"
        )
    worst = 0.0
    for name in peer:
        if name.startswith("gradient_"):
            difference = np.max(np.abs(peer[name] - ours[name]))
            worst = max(worst, float(difference / np.max(np.abs(peer[name]))))
    output = float(np.max(np.abs(peer["output"] - ours["output"])))
    return Errors(output, worst)
