"""Solutions of many symmetric systems at once by conjugate gradients."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .chunk_decay import row_sum

Product = Callable[[Array], Array]

# Relative residual at which a system counts as solved, in roundings of its type.
_ROUNDINGS = 8


def solve(
    product: Product, right: Float[Array, "*axes k"], *, steps: int
) -> Float[Array, "*axes k"]:
    """Return x with A x = b for every b in `right`, one system per row.

    The gradient is that of the solution (implicit differentiation): it solves each
    system once more and keeps no iterate.

    Args:
        product: maps x to A x, linearly. Every A is symmetric and positive definite.
        right: right-hand sides, one for each system.
        steps: largest number of iterations.
    """
    iterate = partial(conjugate_gradients, steps=steps)
    return jax.lax.custom_linear_solve(product, right, iterate, symmetric=True)


def conjugate_gradients(
    product: Product, right: Float[Array, "*axes k"], *, steps: int
) -> Float[Array, "*axes k"]:
    """Return the iterates after at most `steps` steps from zero.

    A system stops when its residual is a few roundings of its right-hand side. Other
    systems do not change its steps, so no bit of a solution depends on them.

    Args:
        product: maps x to A x, as in `solve`.
        right: right-hand sides, in the type of the solution.
        steps: largest number of iterations.
    """
    limit = (_ROUNDINGS * jnp.finfo(right.dtype).eps) ** 2 * _square(right)

    def step(carry: tuple) -> tuple:
        x, residual, direction, square = carry
        image = product(direction)
        curvature = row_sum(direction * image)
        active = (square > limit) & (curvature > 0)
        length = _quotient(active, square, curvature)
        x = x + length * direction
        residual = residual - length * image
        after = jnp.where(active, _square(residual), square)
        direction = residual + _quotient(active, after, square) * direction
        return x, residual, direction, after

    def step_if_needed(carry: tuple, _: None) -> tuple[tuple, None]:
        # A scan of known length, so that its operations can be counted.
        needed = jnp.any(carry[-1] > limit)
        return jax.lax.cond(needed, step, lambda carry: carry, carry), None

    start = (jnp.zeros_like(right), right, right, _square(right))
    return jax.lax.scan(step_if_needed, start, None, length=steps)[0][0]


def _square(x: Float[Array, "*axes k"]) -> Float[Array, "*axes"]:
    return row_sum(x * x)


def _quotient(
    active: Array, over: Float[Array, "*axes"], under: Float[Array, "*axes"]
) -> Float[Array, "*axes 1"]:
    """Return over / under for active systems and 0 for the others."""
    return jnp.where(active, over / jnp.where(active, under, 1), 0)[..., None]
