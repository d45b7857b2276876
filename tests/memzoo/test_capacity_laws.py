"""The law of full states finds every fault."""

import numpy as np
import pytest

from memzoo.agreement import BrokenLaw
from memzoo.capacity_laws import check_capacity

X = np.random.default_rng(0).standard_normal((2, 10, 3)).astype(np.float32)


class Sums:
    """Sum of the document so far, with the state `(sum, n, room)`."""

    def __init__(self, fault=""):
        self.fault = fault

    def new(self, length):
        room = 10**9 if self.fault == "unlimited" else length
        return np.zeros((2, 3)), 0, room

    def run(self, x, state):
        total, count, room = state
        y = total[:, None] + np.cumsum(x, axis=1)
        place = count + np.arange(x.shape[1])
        full = place >= room if room else place * (count > 0) > 0
        if self.fault == "goes on":
            y = y + full[None, :, None]
        elif self.fault == "one row":
            y[0, full] = np.nan
        else:
            y[:, full] = np.nan
        if self.fault == "too early" and room:
            y[:, place == room - 1] = np.nan
        if self.fault == "no training" and not room:
            y[:] = np.nan
        return y, (total + x.sum(axis=1), count + x.shape[1], room)

    def steps(self, x, state):
        outputs = []
        if state[2] == 0 and self.fault == "refuses inside":
            raise ValueError("give a max_length")
        if state[2] == 4 and self.fault == "refuses steps":
            raise ValueError("give a max_length")
        if self.fault == "goes on by steps":
            state = (*state[:2], 10**9)
            x = x * np.where(np.arange(10) < 7, 1, 2)[None, :, None]
        for t in range(x.shape[1]):
            y, state = self.run(x[:, t : t + 1], state)
            outputs.append(y)
        return np.concatenate(outputs, axis=1), state

    def outside(self, x, state):
        y, after = self.run(x, state)
        if np.any(np.isnan(y)) and self.fault != "silent outside":
            raise ValueError("no room" if self.fault == "no remedy" else "max_length")
        return y, after


def check(fault):
    sums = Sums(fault)
    check_capacity(sums.new, sums.run, sums.steps, sums.outside, X)


@pytest.mark.parametrize("kind", ["", "unlimited", "refuses inside"])
def test_states_that_take_more_or_say_so_obey(kind):
    check(kind)


FAULTS = {
    "goes on": r"a second call of a state with max_length 0 are neither exact nor NaN",
    "one row": "a second call of a state with max_length 0 are neither exact nor NaN",
    "too early": "outputs of a state with max_length 4 are neither exact nor NaN",
    "no training": "outputs of a state with max_length 0 are neither exact nor NaN",
    "goes on by steps": "outputs of steps of a state with max_length 0 are neither",
    "refuses steps": "steps of a state with max_length 4 are refused although there is",
    "silent outside": "outside jit no ValueError reports the lack of room",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(fault):
    with pytest.raises(BrokenLaw, match=FAULTS[fault]):
        check(fault)


def test_an_error_without_the_remedy_is_passed_on():
    with pytest.raises(ValueError, match="no room"):
        check("no remedy")
