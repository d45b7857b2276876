"""Least squares as a plain function, and the example that draws it."""

import runpy
from pathlib import Path

import numpy as np

from memzoo.ops import least_squares

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "stored_pairs.py"


def test_pairs_are_recalled_exactly_while_there_are_fewer_than_channels(x64):
    rng = np.random.default_rng(0)
    k, v = rng.normal(size=(2, 1, 6, 2, 8))
    gates = {"ridge": 1e-9, "solver": "exact"}
    _, memory = least_squares(k, k, v, **gates)
    weight = np.zeros(k.shape[:3])
    again, _ = least_squares(
        k, 0 * k, 0 * v, memory=memory, write_strength=weight, **gates
    )
    np.testing.assert_allclose(again, v, atol=1e-6)


def test_example_shows_that_least_squares_holds_correlated_pairs():
    example = runpy.run_path(str(EXAMPLE))
    keys = example["make_keys"](5, 0.7)
    np.testing.assert_allclose(np.linalg.norm(keys, axis=1), 1)
    last = {
        name: example["errors"](example["MEMORIES"][name], keys, np.eye(5))[:, -1]
        for name in ("linear attention", "least squares")
    }
    assert np.all(last["least squares"] < 1e-3)
    assert np.all(last["linear attention"] > 0.3)
