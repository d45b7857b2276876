"""Newton-Schulz iteration: a matrix with singular values near 1 (Muon's step)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from .matrix_product import exact_product

MUON = (3.4445, -4.7750, 2.0315)
"""Coefficients a, b, c of Muon's polynomial a s + b s^3 + c s^5."""

_FLOOR = 1e-6
"""Number added to the squared norm: a matrix much shorter than 0.001 stays short."""


def newton_schulz(
    matrix: Float[Array, "*axes k v"], steps: int
) -> Float[Array, "*axes k v"]:
    """Return U p(S) V^T for a matrix with the singular values S.

    The matrix is divided by its Frobenius norm. Each step then applies
    X <- a X + b (X X^T) X + c (X X^T)^2 X, so p moves all singular values toward 1 (to
    between 0.7 and 1.2, unless they are very small). Five steps are usual.

    Args:
        matrix: matrices in the last two axes.
        steps: number of steps, at least 1.
    """
    a, b, c = MUON
    square = jnp.sum(jnp.square(matrix), axis=(-2, -1), keepdims=True)
    x = matrix / jnp.sqrt(square + _FLOOR)
    # The smaller of the two Gram matrices costs less.
    wide = x.shape[-2] <= x.shape[-1]
    for _ in range(steps):
        if wide:
            gram = exact_product("...kv,...lv->...kl", x, x)
            inner = b * gram + c * exact_product("...kl,...lm->...km", gram, gram)
            x = a * x + exact_product("...kl,...lv->...kv", inner, x)
        else:
            gram = exact_product("...kv,...kw->...vw", x, x)
            inner = b * gram + c * exact_product("...vw,...wu->...vu", gram, gram)
            x = a * x + exact_product("...kv,...vw->...kw", x, inner)
    return x
