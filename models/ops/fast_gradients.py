"""Operations of few kinds whose gradients are products, each in the order it is read.

XLA runs matrix products on a CPU near the processor's peak, but fused sums several
times slower, and automatic differentiation of a product yields its transpose, which is
then copied. Every sum here is a product with ones; every gradient of a product comes in
the order of its factor. All can be differentiated twice.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .chunk_decay import row_sum
from .matrix_product import matrix_product


@partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def product(
    equation: str,
    left: Float[Array, "..."],
    right: Float[Array, "..."],
    operand: DTypeLike,
) -> Float[Array, "..."]:
    """The einsum of two arrays, rounded to `operand` and summed in their own type.

    Every letter of a factor stands in the other one or in the result.
    """
    dtype = jnp.result_type(left, right)
    return matrix_product(equation, left, right, operand=operand, accumulate=dtype)


def _product(equation: str, left: Array, right: Array, operand: DTypeLike):
    return product(equation, left, right, operand), (left, right)


def _product_back(equation: str, operand: DTypeLike, factors: tuple, cotangent: Array):
    left, right = factors
    names, result = equation.split("->")
    a, b = names.split(",")
    return (
        product(f"{result},{b}->{a}", cotangent, right, operand),
        product(f"{a},{result}->{b}", left, cotangent, operand),
    )


product.defvjp(_product, _product_back)


@jax.custom_vjp
def scale_rows(
    x: Float[Array, "*axes v"], factor: Float[Array, "*axes"]
) -> Float[Array, "*axes v"]:
    """Every row times its factor."""
    return x * factor[..., None]


def _scale_rows(x: Array, factor: Array):
    return scale_rows(x, factor), (x, factor)


def _scale_rows_back(saved: tuple[Array, Array], cotangent: Array):
    x, factor = saved
    return scale_rows(cotangent, factor), row_product(cotangent, x)


scale_rows.defvjp(_scale_rows, _scale_rows_back)


@jax.custom_vjp
def row_product(
    x: Float[Array, "*axes v"], y: Float[Array, "*axes v"]
) -> Float[Array, "*axes"]:
    """The inner product of every row with the row of the other array."""
    return row_sum(x * y)


def _row_product(x: Array, y: Array):
    return row_product(x, y), (x, y)


def _row_product_back(saved: tuple[Array, Array], cotangent: Array):
    x, y = saved
    return scale_rows(y, cotangent), scale_rows(x, cotangent)


row_product.defvjp(_row_product, _row_product_back)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def over_rows(vector: Float[Array, "*axes v"], count: int) -> Float[Array, "*axes c v"]:
    """The vector in every one of so many rows."""
    shape = (*vector.shape[:-1], count, vector.shape[-1])
    return jnp.broadcast_to(vector[..., None, :], shape)


def _over_rows(vector: Array, count: int):
    return over_rows(vector, count), None


def _over_rows_back(count: int, saved: None, cotangent: Array) -> tuple[Array]:
    del saved
    ones = jnp.ones(count, cotangent.dtype)
    return (jnp.einsum("...cv,c->...v", cotangent, ones),)


over_rows.defvjp(_over_rows, _over_rows_back)


def standardise(x: Float[Array, "*axes v"], epsilon: float = 1e-6) -> Array:
    """Rows less their mean, over their standard deviation."""
    return _standardise(epsilon, x)[0]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _standardise(epsilon: float, x: Array) -> tuple[Array, Array]:
    share = jnp.full(x.shape[:-1], 1 / x.shape[-1], x.dtype)
    centred = x - (row_sum(x) * share)[..., None]
    inverse = jax.lax.rsqrt(row_sum(jnp.square(centred)) * share + epsilon)
    return scale_rows(centred, inverse), inverse


def _standardise_forward(epsilon: float, x: Array):
    result = _standardise(epsilon, x)
    return result, result


def _standardise_back(epsilon: float, saved: tuple, cotangents: tuple) -> tuple[Array]:
    del epsilon
    y, inverse = saved
    dy, dinverse = cotangents
    share = 1 / y.shape[-1]
    along = (row_product(dy, y) + dinverse * inverse) * share
    mean = row_product(dy, jnp.ones_like(y)) * share
    inner = dy - scale_rows(jnp.ones_like(y), mean) - scale_rows(y, along)
    return (scale_rows(inner, inverse),)


_standardise.defvjp(_standardise_forward, _standardise_back)
