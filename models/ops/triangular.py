"""Inverse of a unit lower triangular matrix by matrix products."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_BLOCK = 16


@jax.custom_jvp
def unit_lower_inverse(
    lower: Float[Array, "*axes c c"],
) -> Float[Array, "*axes c c"]:
    """Return the inverse of I + L, where L is `lower`, strictly lower triangular.

    The diagonal blocks are inverted by doubling, X <- X - X L_off X, where L_off joins
    neighbouring blocks that X already inverts; larger blocks are merged from halves.
    No power of L is formed: for correlated keys, powers lose every digit. `lower` must
    be zero on and above the diagonal.
    """
    return _inverse(lower)


def _inverse(lower: Float[Array, "*axes c c"]) -> Float[Array, "*axes c c"]:
    size = lower.shape[-1]
    if size <= _BLOCK:
        return _inverse_by_doubling(lower)
    padded = _BLOCK
    while padded < size:
        padded *= 2
    padding = [(0, 0)] * (lower.ndim - 2) + [(0, padded - size)] * 2
    lower = jnp.pad(lower, padding)
    inverse = _inverse_by_doubling(_blocks(lower, _BLOCK, 0))
    block = _BLOCK
    while block < padded:
        inverse = _merge(inverse, _blocks(lower, block, 1)[..., ::2, :, :])
        block *= 2
    return inverse[..., 0, :size, :size]


def _inverse_by_doubling(lower: Float[Array, "*axes c c"]) -> Float[Array, "*axes c c"]:
    size = lower.shape[-1]
    axes = lower.ndim - 2
    place = np.arange(size)
    if size == 1:
        # `lower` is zero here. Adding it makes vmap map the result, like the tangent.
        return 1 + lower
    inverse = np.eye(size, dtype=lower.dtype).reshape((1,) * axes + (size, size))
    block = 1
    while block < size:
        index = place // block
        joins = (index[:, None] == index[None, :] + 1) & (index[None, :] % 2 == 0)
        off = jnp.where(joins.reshape((1,) * axes + joins.shape), lower, 0)
        if block > 1:
            off = _product(_product(inverse, off), inverse)
        inverse = inverse - off
        block *= 2
    return jnp.broadcast_to(inverse, lower.shape)


def _blocks(
    matrix: Float[Array, "*axes c c"], block: int, below: int
) -> Float[Array, "*axes n block block"]:
    """Return the blocks of a matrix that are `below` blocks under the diagonal."""
    count = matrix.shape[-1] // block
    # Not jnp.stack: under two vmaps XLA:CPU (jaxlib 0.10.2) aborts on its products.
    return jnp.concatenate(
        [
            matrix[
                ...,
                None,
                (i + below) * block : (i + below + 1) * block,
                i * block : (i + 1) * block,
            ]
            for i in range(count - below)
        ],
        axis=-3,
    )


def _merge(
    inverse: Float[Array, "*axes n c c"], off: Float[Array, "*axes m c c"]
) -> Float[Array, "*axes m d d"]:
    """Return the inverses of the blocks of twice the size."""
    top, bottom = inverse[..., ::2, :, :], inverse[..., 1::2, :, :]
    corner = -_product(_product(bottom, off), top)
    upper = jnp.concatenate([top, jnp.zeros_like(top)], axis=-1)
    return jnp.concatenate([upper, jnp.concatenate([corner, bottom], axis=-1)], axis=-2)


_product = partial(
    jnp.einsum, "...ij,...jk->...ik", precision=jax.lax.Precision.HIGHEST
)


@unit_lower_inverse.defjvp
def _tangent(
    primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Float[Array, "*axes c c"], Float[Array, "*axes c c"]]:
    inverse = unit_lower_inverse(*primals)
    tangent = jnp.tril(tangents[0], -1)
    return inverse, -_product(_product(inverse, tangent), inverse)
