"""Maps from the sums of gradients that a memory keeps to the weights that it uses."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Link = Literal["identity", "q_norm", "softmax"]

_SMALLEST = 1e-12
"""Number added to a norm's power, so that a matrix of zeros has a finite map."""


def q_norm_link(
    matrix: Float[Array, "*axes k v"], power: float
) -> Float[Array, "*axes k v"]:
    """Return A / |A|_q^(q - 2), with |A|_q the q-norm of all entries.

    This is the link of Moneta (arXiv 2504.13173). A longer A gives shorter weights: the
    map has degree 3 - q.

    Args:
        matrix: A, in the last two axes.
        power: q.
    """
    total = jnp.sum(jnp.abs(matrix) ** power, axis=(-2, -1), keepdims=True)
    return matrix * (total + _SMALLEST) ** ((2 - power) / power)


def softmax_link(matrix: Float[Array, "*axes k v"]) -> Float[Array, "*axes k v"]:
    """Return k softmax(A), over the k inputs of every output.

    This is the link of Memora (arXiv 2504.13173). All weights are positive, and those
    of one output have the mean 1.
    """
    return matrix.shape[-2] * jax.nn.softmax(matrix, axis=-2)


def linked(
    matrix: Float[Array, "*axes k v"], link: Link, power: float
) -> Float[Array, "*axes k v"]:
    """Return the weights of a matrix under the named link."""
    if link == "q_norm":
        return q_norm_link(matrix, power)
    return softmax_link(matrix) if link == "softmax" else matrix
