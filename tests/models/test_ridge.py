import numpy as np
import pytest

from memzoo.models.ridge import Ridge, check_ridge


def test_ridges_begin_at_the_initial_value_and_stay_above_the_floor():
    ridge = Ridge((2, 3), floor=0.25, initial=1.0)
    np.testing.assert_allclose(ridge(), np.ones((2, 3)), rtol=1e-6)
    ridge.unbounded[...] = ridge.unbounded[...] * 0 - 50
    np.testing.assert_allclose(ridge(), np.full((2, 3), 0.25), rtol=1e-6)


@pytest.mark.parametrize(
    ("floor", "initial", "message"),
    [
        (0.0, 1.0, "ridge_floor is 0.0; give a number above 0"),
        (0.1, float("inf"), "initial_ridge is inf; give a finite number above 0"),
        (0.5, 0.5, "initial_ridge is 0.5; give a number above ridge_floor, 0.5"),
    ],
)
def test_ridges_that_are_not_positive_are_refused(floor, initial, message):
    with pytest.raises(ValueError, match=message):
        check_ridge(floor, initial)
