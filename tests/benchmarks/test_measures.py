import math

import numpy as np
import pytest

from memzoo.benchmarks.measures import errors_between, growth_exponent, paired_ratio


def test_the_ratio_is_the_median_of_the_rounds_with_its_extremes():
    # The last round was slow for both: its ratio is like the others'.
    ratio = paired_ratio([2.0, 3.0, 8.0, 300.0], [1.0, 1.0, 2.0, 100.0])
    assert ratio == (3.0, 2.0, 4.0)


@pytest.mark.parametrize("peer, ours", [([], []), ([1.0, 2.0], [1.0])])
def test_rounds_that_do_not_pair_are_refused(peer, ours):
    with pytest.raises(ValueError, match="measure both in every round"):
        paired_ratio(peer, ours)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_the_exponent_of_a_power_law_is_found(power):
    times = [1024, 2048, 4096, 8192]
    assert math.isclose(growth_exponent(times, [3 * t**power for t in times]), power)


def test_nothing_measured_has_no_exponent():
    assert math.isnan(growth_exponent([1, 2], [0.0, 1.0]))


def test_errors_are_absolute_for_outputs_and_relative_for_gradients():
    peer = {
        "output": np.array([1.0, 2.0]),
        "gradient_q": np.array([10.0, -100.0]),
        "gradient_k": np.array([1.0]),
    }
    ours = {
        "output": np.array([1.5, 2.0]),
        "gradient_q": np.array([11.0, -100.0]),
        "gradient_k": np.array([1.1]),
    }
    errors = errors_between(peer, ours)
    np.testing.assert_allclose(errors, (0.5, 0.1), rtol=1e-12)


def test_results_that_hold_different_arrays_are_refused():
    with pytest.raises(ValueError, match="gradient_k"):
        errors_between({"output": np.ones(1)}, {"gradient_k": np.ones(1)})
