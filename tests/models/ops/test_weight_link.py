"""Links against the problems that they solve."""

import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from memzoo.models.ops.weight_link import linked, q_norm_link, softmax_link


def test_the_softmax_solves_memoras_problem(x64):
    """Memora's step: a linear loss, a KL divergence and an entropy, on a simplex."""
    rng = np.random.default_rng(0)
    logs, gradient = jnp.asarray(rng.standard_normal((2, 4, 1)))
    alpha, theta, slope = 0.3, 0.7, np.asarray(gradient)[:, 0]
    before = np.asarray(softmax_link(logs))[:, 0]
    np.testing.assert_allclose(before.sum(), 4)

    def objective(w):
        divergence = np.sum(w * np.log(w / before))
        entropy = np.sum(w * np.log(w))
        linear = theta * np.sum(slope * w)
        return linear + (1 - alpha) * divergence + alpha * entropy

    solved = minimize(
        objective,
        np.ones(4),
        method="SLSQP",
        bounds=[(1e-9, None)] * 4,
        constraints={"type": "eq", "fun": lambda w: np.sum(w) - 4},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    after = softmax_link((1 - alpha) * logs - theta * gradient)
    np.testing.assert_allclose(after[:, 0], solved.x, rtol=1e-5)


def test_logs_before_and_after_the_softmax_take_the_same_step(x64):
    logs, gradient = jnp.asarray(np.random.default_rng(1).standard_normal((2, 3, 2)))
    kept = softmax_link(0.8 * logs - 0.1 * gradient)
    printed = softmax_link(0.8 * np.log(softmax_link(logs)) - 0.1 * gradient)
    np.testing.assert_allclose(kept, printed, rtol=1e-12)


def test_the_q_norm_divides_by_a_power_of_the_norm(x64):
    matrix = jnp.asarray(np.random.default_rng(2).standard_normal((2, 3, 4)))
    found = q_norm_link(matrix, 4.0)
    for a, w in zip(matrix, found, strict=True):
        norm = np.linalg.norm(a.ravel(), 4)
        np.testing.assert_allclose(w, a / norm**2, rtol=1e-10)
    np.testing.assert_allclose(q_norm_link(2 * matrix, 4.0), found / 2, rtol=1e-10)
    np.testing.assert_allclose(q_norm_link(matrix, 2.0), matrix, rtol=1e-12)
    assert not np.any(q_norm_link(0 * matrix, 4.0))
    assert linked(matrix, "identity", 4.0) is matrix
