"""Learned ridges: positive numbers that least-squares layers add to a diagonal."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from memzoo.errors import InputError

from .layer_checks import check_positive


class Ridge(nnx.Module):
    """The numbers `floor` + softplus(p), with one parameter p for each."""

    def __init__(self, shape: tuple[int, ...], *, floor: float, initial: float):
        """Set every number to `initial`, which must be above `floor`."""
        start = math.log(math.expm1(initial - floor))
        self.unbounded = nnx.Param(jnp.full(shape, start, jnp.float32))
        self.floor = floor

    def __call__(self) -> Float[Array, "*shape"]:
        """Return the ridges, in float32."""
        return self.floor + jax.nn.softplus(self.unbounded[...])


def check_ridge(floor: float, initial: float) -> None:
    """Raise InputError unless 0 < floor < initial."""
    check_positive("ridge_floor", floor)
    check_positive("initial_ridge", initial)
    if not initial > floor:
        raise InputError(
            f"initial_ridge is {initial}; give a number above ridge_floor, {floor}"
        )
