"""The matrix product of the recurrent ops."""

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
    precision: str | None = None,
) -> Float[Array, "..."]:
    """Return the einsum of two arrays, rounded to `operand`, summed in `accumulate`.

    Args:
        equation: einsum equation.
        left: first operand.
        right: second operand.
        operand: type of the factors, the type of the model's activations.
        accumulate: type of the sums and of the result.
        precision: precision of JAX's products, such as "highest"; None: its default.
    """
    return jnp.einsum(
        equation,
        left.astype(operand),
        right.astype(operand),
        precision=precision,
        preferred_element_type=accumulate,
    )
