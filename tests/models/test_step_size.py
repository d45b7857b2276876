"""Step sizes of the delta rule against the problems that they solve, in float64."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from memzoo.models.step_size import check_step_size, key_and_step


def _problem():
    rng = np.random.default_rng(0)
    key = 2 * rng.standard_normal((1, 3, 2, 4))
    gate = rng.uniform(size=(1, 3, 2))
    value, memory = rng.standard_normal((1, 3, 2, 5)), rng.standard_normal((4, 5))
    return key, gate, value, memory


def _implicit(key, gate, value, memory):
    """Solve for the minimum of |S - memory|^2 + gate |S^T key - value|^2."""
    left = np.eye(4) + gate * np.outer(key, key)
    return np.linalg.solve(left, memory + gate * np.outer(key, value))


def _kaczmarz(key, gate, value, memory):
    """Go the share `gate` of the way to the nearest S with S^T key = value."""
    nearest = memory - np.linalg.pinv(key[None]) @ (key[None] @ memory - value[None])
    return memory + gate * (nearest - memory)


def _error_free(key, gate, value, memory):
    """Follow dS/dt = key (value - S^T key)^T for the time `gate`."""
    system = np.zeros((5, 5))
    system[:4, :4] = -np.outer(key, key)
    columns = []
    for column, target in zip(memory.T, value, strict=True):
        system[:4, 4] = target * key
        columns.append((expm(gate * system) @ np.append(column, 1))[:4])
    return np.stack(columns, axis=1)


def _gate(key, gate, value, memory):
    """Take a gradient step of size `gate` at a key of length 1."""
    unit = key / np.linalg.norm(key)
    return memory + gate * np.outer(unit, value - memory.T @ unit)


SOLVED = {
    "gate": (_gate, 1e-6),
    "implicit": (_implicit, 1e-12),
    "kaczmarz": (_kaczmarz, 1e-6),
    "error_free": (_error_free, 1e-12),
}


@pytest.mark.parametrize("name", SOLVED)
def test_a_write_solves_its_problem(x64, name):
    """The norms of gate and kaczmarz add 1e-6 to the squared length."""
    keys, gates, values, memory = _problem()
    solve, bound = SOLVED[name]
    found = key_and_step(name, jnp.asarray(keys), jnp.asarray(gates))
    for at in np.ndindex(gates.shape):
        key, step = (np.asarray(x[at]) for x in found)
        written = memory + step * np.outer(key, values[at] - memory.T @ key)
        wanted = solve(keys[at], gates[at], values[at], memory)
        np.testing.assert_allclose(written, wanted, rtol=0, atol=10 * bound)


@pytest.mark.parametrize("name", SOLVED)
def test_a_key_of_zeros_writes_nothing(name):
    key, step = key_and_step(name, jnp.zeros((1, 1, 1, 4)), jnp.full((1, 1, 1), 0.5))
    assert np.all(np.isfinite(step)) and not np.any(key)


def test_unknown_and_contradictory_step_sizes_are_refused():
    with pytest.raises(ValueError, match="step_size is 'exact'; choose one of"):
        check_step_size("exact", negative_eigenvalues=False)
    for name in ("implicit", "error_free"):
        with pytest.raises(ValueError, match=f"{name} has no negative eigenvalues"):
            check_step_size(name, negative_eigenvalues=True)
