"""The matrix products of the recurrent ops."""

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float


def matrix_product(
    equation: str,
    left: Float[Array, "..."],
    right: Float[Array, "..."],
    *,
    operand: DTypeLike,
    accumulate: DTypeLike,
) -> Float[Array, "..."]:
    """Return the einsum of two arrays, rounded to `operand`, summed in `accumulate`.

    Args:
        equation: einsum equation.
        left: first operand.
        right: second operand.
        operand: type of the factors, the type of the model's activations.
        accumulate: type of the sums and of the result.
    """
    return jnp.einsum(
        equation,
        left.astype(operand),
        right.astype(operand),
        preferred_element_type=accumulate,
    )


def exact_product(
    equation: str, left: Float[Array, "..."], right: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Return the einsum of two arrays at full precision, for linear systems.

    Faster products of a GPU round their factors to 11 bits; a solution of a system then
    loses digits, and a Cholesky factor may not exist.
    """
    return jnp.einsum(equation, left, right, precision="highest")
