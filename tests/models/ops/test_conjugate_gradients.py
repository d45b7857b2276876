"""Conjugate gradients against numpy's solve, with gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from memzoo.models.ops.conjugate_gradients import conjugate_gradients, solve


def _systems(rng, size=6, count=3):
    root = rng.standard_normal((count, size, size))
    return root @ np.swapaxes(root, 1, 2) + 0.5 * np.eye(size)


def _product(matrices):
    return lambda x: jnp.einsum("nij,nj->ni", matrices, x)


def test_solutions_and_gradients_are_those_of_a_direct_solve(x64):
    rng = np.random.default_rng(0)
    matrices, right, weight = (
        jnp.asarray(x) for x in (_systems(rng), *rng.standard_normal((2, 3, 6)))
    )

    def direct(matrices, right):
        return jnp.sum(weight * jnp.linalg.solve(matrices, right[..., None])[..., 0])

    def iterated(matrices, right):
        return jnp.sum(weight * solve(_product(matrices), right, steps=30))

    wanted = jax.jit(jax.value_and_grad(direct, (0, 1)))(matrices, right)
    found = jax.jit(jax.value_and_grad(iterated, (0, 1)))(matrices, right)
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


def test_the_iterates_are_the_best_of_their_krylov_space(x64):
    """The error after n steps is least over b, A b, ..., in the norm of A."""
    rng = np.random.default_rng(1)
    matrix, right = _systems(rng, count=1)[0], rng.standard_normal(6)
    for steps in (1, 3):
        found = conjugate_gradients(
            _product(jnp.asarray(matrix[None])), jnp.asarray(right[None]), steps=steps
        )
        space = np.stack(
            [np.linalg.matrix_power(matrix, n) @ right for n in range(steps)], axis=1
        )
        best = np.linalg.solve(space.T @ matrix @ space, space.T @ right)
        np.testing.assert_allclose(found[0], space @ best, rtol=1e-8)


def test_systems_stop_one_by_one_and_zero_stays_zero():
    """No bit of a solution depends on a system that needs more steps."""
    rng = np.random.default_rng(2)
    matrices = _systems(rng, count=20)
    matrices[-1] = np.diag(10.0 ** np.arange(6))
    right = rng.standard_normal((20, 6))
    right[0] = 0
    easy = right * (np.arange(20) < 19)[:, None]
    run = partial(conjugate_gradients, _product(jnp.asarray(matrices, jnp.float32)))
    together, first = (
        run(jnp.asarray(b, jnp.float32), steps=40) for b in (right, easy)
    )
    np.testing.assert_array_equal(together[:-1], first[:-1])
    np.testing.assert_array_equal(together[0], np.zeros(6))
    wanted = np.linalg.solve(matrices, right[..., None])[:-1, :, 0]
    np.testing.assert_allclose(together[:-1], wanted, rtol=1e-4, atol=1e-4)
