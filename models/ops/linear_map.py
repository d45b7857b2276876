"""The linear map of activations by a kernel, with a gradient in a fast memory order.

The kernel's gradient is a product of the input with the cotangent. Derived
automatically it is the transpose of another product, which XLA:CPU turns into a product
with a transposed copy. The operations fused with the cotangent (norms, convolutions,
activations) are then computed in the order of that copy, column by column.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from memzoo.errors import InputError


def linear_map(
    x: Float[Array, "*b d"], kernel: Float[Array, "d e"]
) -> Float[Array, "*b e"]:
    """Multiply the last axis of x by the kernel; differentiable in reverse mode.

    Args:
        x: activations.
        kernel: kernel of the same type.

    Raises:
        InputError: the axis d has two lengths.
    """
    if x.shape[-1] != kernel.shape[0]:
        raise InputError(
            f"the input has width {x.shape[-1]}; give it the width {kernel.shape[0]} "
            "that the layer was built with"
        )
    return _linear_map(x, kernel)


@jax.custom_vjp
def _linear_map(x: Array, kernel: Array) -> Array:
    return jnp.einsum("...d,de->...e", x, kernel)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    # Not a call of _linear_map, which would hide the product from remat policies.
    return jnp.einsum("...d,de->...e", x, kernel), (x, kernel)


def _backward(residuals: tuple[Array, Array], y: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    before = jnp.einsum("...e,de->...d", y, kernel)
    tokens = tuple(range(x.ndim - 1))
    return before, jax.lax.dot_general(x, y, ((tokens, tokens), ((), ())))


_linear_map.defvjp(_forward, _backward)
