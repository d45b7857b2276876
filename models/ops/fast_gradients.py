"""Operations whose gradients are matrix products in a fast memory order.

On a CPU, XLA runs matrix products near the processor's peak, but fused sums several
times slower. Automatic differentiation of a product yields a transpose, which is then
copied. Here every sum is a product with ones, and every gradient of a product has the
axis order of its factor. All operations can be differentiated twice.
"""

import math

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .chunk_decay import row_sum
from .matrix_product import matrix_product


def product(
    equation: str,
    left: Float[Array, "..."],
    right: Float[Array, "..."],
    operand: DTypeLike,
) -> Float[Array, "..."]:
    """Return the einsum of two arrays, rounded to `operand`, summed in their own type.

    Args:
        equation: every letter of a factor is in the other factor or in the result.
        left: first factor.
        right: second factor.
        operand: type of the factors in the product.

    The policy `keep_rows` keeps results with one row per token in a rematerialised
    function. In an equation the tokens are `c` or `t`, or `s` if all pairs meet.
    """
    y = _product(equation, left, right, operand)
    result = equation.partition("->")[2]
    rows = len(result) == 4 and result[2] in "ct" and result[3] != "s"
    rows = rows and y.shape[2] >= _MANY
    return checkpoint_name(y, _ROWS) if rows else y


_MANY = 32
"""Number of tokens from which a product is cheaper to keep than to recompute."""

_ROWS = "rows"
keep_rows = jax.checkpoint_policies.save_only_these_names(_ROWS)
"""Policy that keeps products with one row per token and recomputes the rest."""


def _multiply(equation: str, left: Array, right: Array, operand: DTypeLike) -> Array:
    dtype = jnp.result_type(left, right)
    return matrix_product(equation, left, right, operand=operand, accumulate=dtype)


_product = jax.custom_vjp(_multiply, nondiff_argnums=(0, 3))


def _product_forward(equation: str, left: Array, right: Array, operand: DTypeLike):
    return product(equation, left, right, operand), (left, right)


def _product_back(equation: str, operand: DTypeLike, factors: tuple, cotangent: Array):
    left, right = factors
    names, result = equation.split("->")
    a, b = names.split(",")
    return (
        product(f"{result},{b}->{a}", cotangent, right, operand),
        product(f"{a},{result}->{b}", left, cotangent, operand),
    )


_product.defvjp(_product_forward, _product_back)


@jax.custom_vjp
def scale_rows(
    x: Float[Array, "*axes v"], factor: Float[Array, "*axes"]
) -> Float[Array, "*axes v"]:
    """Multiply every row by its factor."""
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
    """Return the inner product of every row with the same row of the other array."""
    return row_sum(x * y)


def _row_product(x: Array, y: Array):
    return row_product(x, y), (x, y)


def _row_product_back(saved: tuple[Array, Array], cotangent: Array):
    x, y = saved
    return scale_rows(y, cotangent), scale_rows(x, cotangent)


row_product.defvjp(_row_product, _row_product_back)


def over_rows(vector: Float[Array, "*axes v"], count: int) -> Float[Array, "*axes c v"]:
    """Repeat the vector over rows."""
    return _over_rows(vector, count)


def _repeat(vector: Array, count: int) -> Array:
    shape = (*vector.shape[:-1], count, vector.shape[-1])
    return jnp.broadcast_to(vector[..., None, :], shape)


_over_rows = jax.custom_vjp(_repeat, nondiff_argnums=(1,))


def _over_rows_forward(vector: Array, count: int):
    return over_rows(vector, count), None


def _over_rows_back(count: int, saved: None, cotangent: Array) -> tuple[Array]:
    del saved
    ones = jnp.ones(count, cotangent.dtype)
    return (jnp.einsum("...cv,c->...v", cotangent, ones),)


_over_rows.defvjp(_over_rows_forward, _over_rows_back)


def standardise(
    x: Float[Array, "*axes v"], epsilon: float = 1e-6
) -> Float[Array, "*axes v"]:
    """Return (rows - mean) / sqrt(variance + epsilon)."""
    return _standardise(epsilon, x)[0]


def _with_inverse(epsilon: float, x: Array) -> tuple[Array, Array]:
    """Return the standardised rows, and the inverse of their divisor."""
    share = jnp.full(x.shape[:-1], 1 / x.shape[-1], x.dtype)
    centred = x - (row_sum(x) * share)[..., None]
    inverse = jax.lax.rsqrt(row_sum(jnp.square(centred)) * share + epsilon)
    return scale_rows(centred, inverse), inverse


_standardise = jax.custom_vjp(_with_inverse, nondiff_argnums=(0,))


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


@jax.custom_vjp
def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Compute GELU by the common approximation with the hyperbolic tangent."""
    t, _ = _gelu_tangent(x)
    return 0.5 * x * (1 + t)


@jax.custom_vjp
def _gelu_slope(x: Array) -> Array:
    t, slope = _gelu_tangent(x)
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope


def _gelu_bend(x: Array) -> Array:
    t, slope = _gelu_tangent(x)
    third = 6 * _GELU_SCALE * _GELU_CUBE * x
    return (1 - t * t) * (slope + 0.5 * x * (third - 2 * t * slope * slope))


_GELU_SCALE, _GELU_CUBE = math.sqrt(2 / math.pi), 0.044715


def _gelu_tangent(x: Array) -> tuple[Array, Array]:
    square = _GELU_CUBE * x * x
    t = jnp.tanh(_GELU_SCALE * x * (1 + square))
    return t, _GELU_SCALE * (1 + 3 * square)


gelu.defvjp(lambda x: (gelu(x), x), lambda x, c: (c * _gelu_slope(x),))
_gelu_slope.defvjp(lambda x: (_gelu_slope(x), x), lambda x, c: (c * _gelu_bend(x),))
