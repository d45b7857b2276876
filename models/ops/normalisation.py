"""Norms over the last axis, computed in at least float32."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def _wide(x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def rms_norm(
    x: Float[Array, "*b d"],
    scale: Float[Array, " d"] | None = None,
    *,
    epsilon: float = 1e-5,
) -> Float[Array, "*b d"]:
    """Return x / sqrt(mean(x^2) + epsilon), times `scale`, in the type of `x`."""
    wide = _wide(x)
    square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
    y = wide * jax.lax.rsqrt(square + epsilon)
    if scale is not None:
        y = y * scale.reshape((1,) * (x.ndim - 1) + (-1,))
    return y.astype(x.dtype)


def l2_normalise(
    x: Float[Array, "*b d"], *, epsilon: float = 1e-6
) -> Float[Array, "*b d"]:
    """Return x / sqrt(sum(x^2) + epsilon), in the type of `x`; zero stays zero."""
    wide = _wide(x)
    square = jnp.sum(jnp.square(wide), axis=-1, keepdims=True)
    return (wide * jax.lax.rsqrt(square + epsilon)).astype(x.dtype)
