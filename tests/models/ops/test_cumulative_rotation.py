"""Accumulated rotations against complex numbers."""

import jax
import jax.numpy as jnp
import numpy as np

from memzoo.models.ops.cumulative_rotation import cumulative_turns, rotate_pairs

run = jax.jit(cumulative_turns)


def test_turns_add_up_within_a_document(x64):
    rng = np.random.default_rng(0)
    turns = rng.uniform(-3, 3, (2, 7, 1, 3))
    before = rng.uniform(0, 1, (2, 1, 3))
    reset = np.zeros((2, 7), bool)
    reset[0, [2, 3]] = True
    found = np.asarray(run(turns, before, reset=reset))
    assert np.all((found >= 0) & (found < 1))
    for row in range(2):
        held = before[row]
        for t in range(7):
            held = (0 if reset[row, t] else held) + turns[row, t]
            error = found[row, t] - held
            np.testing.assert_allclose(error, np.round(error), atol=1e-12)


def test_the_gradient_is_that_of_a_sum():
    turns = np.random.default_rng(0).uniform(-3, 3, (1, 5, 1, 1)).astype(np.float32)

    def total(turns):
        found = cumulative_turns(turns, jnp.zeros((1, 1, 1)))
        return jnp.sum(found * jnp.arange(5.0)[None, :, None, None])

    found = jax.jit(jax.grad(total))(turns)
    np.testing.assert_allclose(found[0, :, 0, 0], [10, 10, 9, 7, 4])


def test_a_long_document_loses_no_digits():
    turns = np.full((1, 1000, 1, 1), 0.3, np.float32)
    found = run(turns, np.zeros((1, 1, 1), np.float32))[0, :, 0, 0]
    wanted = np.mod(np.float64(np.float32(0.3)) * np.arange(1, 1001), 1)
    # A sum of 300 turns in float32, without dropping any, is off by 3e-5.
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_pairs_of_neighbours_turn_as_complex_numbers(x64):
    rng = np.random.default_rng(1)
    x, turns = rng.standard_normal((2, 6)), rng.uniform(0, 1, (2, 2))
    y = np.asarray(rotate_pairs(jnp.asarray(x), jnp.asarray(turns)))
    turned = (x[:, :4:2] + 1j * x[:, 1:4:2]) * np.exp(2j * np.pi * turns)
    np.testing.assert_allclose(y[:, :4:2], turned.real, rtol=1e-9)
    np.testing.assert_allclose(y[:, 1:4:2], turned.imag, rtol=1e-9)
    np.testing.assert_array_equal(y[:, 4:], x[:, 4:])
