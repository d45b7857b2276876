"""The linear map of activations by a kernel, with a gradient that XLA keeps in order.

The gradient of the kernel is a product of what came in with what comes back. Derived
automatically it is the transpose of another product, which XLA:CPU turns into a product
with a transposed copy; what was to be fused with the cotangent (norms, convolutions,
activations) is then computed in the order of that copy, column by column.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_vjp
def linear_map(
    x: Float[Array, "*b d"], kernel: Float[Array, "d e"]
) -> Float[Array, "*b e"]:
    """x times the kernel, over the last axis; differentiable in reverse mode.

    Args:
        x: activations.
        kernel: of their type.
    """
    return jnp.einsum("...d,de->...e", x, kernel)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    # The product itself: a call of linear_map would hide it from policies of remat.
    return jnp.einsum("...d,de->...e", x, kernel), (x, kernel)


def _backward(residuals: tuple[Array, Array], y: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    before = jnp.einsum("...e,de->...d", y, kernel)
    tokens = tuple(range(x.ndim - 1))
    return before, jax.lax.dot_general(x, y, ((tokens, tokens), ((), ())))


linear_map.defvjp(_forward, _backward)
