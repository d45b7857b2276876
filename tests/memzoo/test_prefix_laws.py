"""The laws of prefixes find every fault."""

import itertools

import numpy as np
import pytest

from memzoo.agreement import BrokenLaw
from memzoo.prefix_laws import check_prefix

TIME = 21
X = np.random.default_rng(0).standard_normal((2, TIME, 3))


def _prefix_length(marked, begun, fault):
    if begun and fault != "reads marks of a document begun before":
        return 0
    if fault == "reads causally":
        return 0
    if fault == "leaks":
        return len(marked)
    gaps = np.flatnonzero(~marked)
    return int(gaps[0]) if len(gaps) else len(marked)


def make_run(fault=None):
    """Return a sum over prefix and past, in plain loops, with one fault."""

    def run(x, state=None, reset=None, valid=None, prefix=None):
        x = np.asarray(x, np.float64)
        none, every = np.zeros((2, TIME), bool), np.ones((2, TIME), bool)
        reset = none if reset is None else np.asarray(reset)
        valid = every if valid is None else np.asarray(valid)
        prefix = none if prefix is None else np.asarray(prefix)
        sums, positions = (np.zeros((2, 3)), np.zeros(2)) if state is None else state
        sums, positions, y = sums.copy(), positions.copy(), np.zeros_like(x)
        for row in range(2):
            real = np.flatnonzero(valid[row])
            starts = [0, *np.flatnonzero(reset[row, real]), len(real)]
            for number, (start, end) in enumerate(itertools.pairwise(starts)):
                tokens = real[start:end]
                if number:
                    sums[row], positions[row] = 0, 0
                if not len(tokens):
                    continue
                length = _prefix_length(prefix[row, tokens], positions[row] > 0, fault)
                if fault == "knows one document" and number > 1:
                    length = 0
                ahead = x[row, tokens[:length]].sum(axis=0)
                if fault == "reads behind a gap":
                    ahead = x[row, tokens][prefix[row, tokens]].sum(axis=0)
                if fault == "counts padding":
                    ahead = ahead + 0 * x[row, ~valid[row]].sum(axis=0)
                if fault != "forgets the prefix":
                    sums[row] += ahead
                    ahead = 0
                for t in tokens:
                    sums[row] = 0.9 * sums[row] + x[row, t]
                    y[row, t] = sums[row] + ahead
                positions[row] += len(tokens)
        return y, (sums, positions)

    return run


def test_a_layer_without_fault_obeys():
    run = make_run()
    check_prefix(run, run, X)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("reads causally", "the first of .* tokens of a prefix is causal"),
        ("leaks", "outputs before .* are not equal bit for bit"),
        ("forgets the prefix", "split at"),
        ("counts padding", "after padding differ by nan"),
        ("reads behind a gap", "outputs with marks after a gap"),
        ("reads marks of a document begun before", "outputs after a prefix, split"),
        ("knows one document", "outputs of the document with a prefix at"),
    ],
)
def test_a_fault_is_found(fault, message):
    run = make_run(fault)
    with pytest.raises(BrokenLaw, match=message):
        check_prefix(run, run, X)


def test_an_empty_prefix_is_none():
    def elsewhere(x):
        y, state = make_run()(x)
        return y + 1, state

    with pytest.raises(BrokenLaw, match="outputs with an empty prefix"):
        check_prefix(make_run(), elsewhere, X)
