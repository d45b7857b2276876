"""From measured rounds to numbers: ratios, errors, exponents."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Num

from memzoo.errors import InputError


class Ratio(NamedTuple):
    """How many times faster ours is than the peer, over the rounds."""

    median: float
    low: float
    high: float


class Errors(NamedTuple):
    """Distance from the peer on identical inputs.

    Attributes:
        output: largest absolute difference of the outputs.
        gradient: over the inputs, the worst of the largest difference of the gradients
            as a share of the peer's largest gradient.
    """

    output: float
    gradient: float


def paired_ratio(peer: Sequence[float], ours: Sequence[float]) -> Ratio:
    """Median and extremes of the ratios of the rounds, peer over ours.

    Each round's two measurements lie side by side in time, so what the machine does
    to one it does to the other.

    Raises:
        InputError: no rounds, or not as many of the one as of the other.
    """
    if not peer or len(peer) != len(ours):
        raise InputError(
            f"{len(peer)} rounds of the peer against {len(ours)} of ours; "
            "measure both in every round"
        )
    ratios = [a / b for a, b in zip(peer, ours, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def growth_exponent(times: Sequence[int], measured: Sequence[float]) -> float:
    """The p of `measured ~ times**p`, by least squares of the logarithms."""
    if min(measured) <= 0:
        return float("nan")
    return float(np.polyfit(np.log(times), np.log(measured), 1)[0])


def errors_between(
    peer: Mapping[str, Num[np.ndarray, "..."]],
    ours: Mapping[str, Num[np.ndarray, "..."]],
) -> Errors:
    """Compare `output` and every `gradient_<input>`.

    Raises:
        InputError: the two do not hold the same arrays.
    """
    if set(peer) != set(ours):
        raise InputError(
            f"results differ in what they hold: {sorted(set(peer) ^ set(ours))}"
        )
    worst = 0.0
    for name in peer:
        if name.startswith("gradient_"):
            difference = np.max(np.abs(peer[name] - ours[name]))
            worst = max(worst, float(difference / np.max(np.abs(peer[name]))))
    output = float(np.max(np.abs(peer["output"] - ours["output"])))
    return Errors(output, worst)
