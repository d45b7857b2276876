"""Rotary position embedding (arXiv 2104.09864)."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def rotary(
    x: Float[Array, "b t h k"], position: Int[Array, "b t"], *, base: float = 10000.0
) -> Float[Array, "b t h k"]:
    """`x` with its pairs of channels rotated by angles that grow with the position.

    Channel i < k/2 is paired with channel i + k/2 and rotated by
    position * base^(-2i/k), so that the inner product of two rotated vectors depends
    on the difference of their positions. Angles are computed in float32 (float64 for
    a float64 `x`).

    Args:
        x: queries or keys.
        position: place of every token in its document.
        base: ratio of the longest to the shortest wavelength.

    Raises:
        ValueError: the key size is odd.

    Differs from the paper in: channels are paired half against half, as checkpoints of
    today expect, not neighbour with neighbour.
    """
    size = x.shape[-1]
    if size % 2:
        raise ValueError(
            f"the key size is {size}; rotary pairs channels, give an even one"
        )
    wide = jnp.promote_types(x.dtype, jnp.float32)
    exponent = jnp.arange(0, size, 2, dtype=wide) / size
    angle = position.astype(wide)[:, :, None, None] * (
        jnp.asarray(base, wide) ** -exponent
    ).reshape(1, 1, 1, -1)
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    first, second = jnp.split(x.astype(wide), 2, axis=-1)
    rotated = (first * cosine - second * sine, second * cosine + first * sine)
    return jnp.concatenate(rotated, axis=-1).astype(x.dtype)
