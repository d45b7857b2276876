"""Feature maps of linear attention: phi(q) . phi(k) is a kernel."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def identity(x: Float[Array, "*axes k"]) -> Float[Array, "*axes k"]:
    """Return `x`."""
    return x


def elu_plus_one(x: Float[Array, "*axes k"]) -> Float[Array, "*axes k"]:
    """Return elu(x) + 1, positive everywhere (arXiv 2006.16236)."""
    return jax.nn.elu(x) + 1


def relu(x: Float[Array, "*axes k"]) -> Float[Array, "*axes k"]:
    """Return max(x, 0)."""
    return jax.nn.relu(x)


def taylor(x: Float[Array, "*axes k"]) -> Float[Array, "*axes f"]:
    """Return features with taylor(q) . taylor(k) = 1 + s + s^2 / 2, where s = q . k.

    This is Based's second-order approximation of exp(s) (arXiv 2402.18668), with each
    product once: f = 1 + k + k (k + 1) / 2. Based uses s / sqrt(k): scale q or k first.
    """
    ones = jnp.ones_like(x[..., :1])
    squares = x**2 / jnp.sqrt(2).astype(x.dtype)
    products = [x[..., i : i + 1] * x[..., i + 1 :] for i in range(x.shape[-1] - 1)]
    return jnp.concatenate([ones, x, squares, *products], axis=-1)


def taylor_size(size: int) -> int:
    """Return the number of features that `taylor` computes from `size` numbers."""
    return 1 + size + size * (size + 1) // 2


def taylor_full(x: Float[Array, "*axes k"]) -> Float[Array, "*axes f"]:
    """Return features with `taylor`'s inner product, each product of two numbers twice.

    f = 1 + k + k^2, the published size of Based and JRT (arXiv 2407.05483).
    """
    ones = jnp.ones_like(x[..., :1])
    products = x[..., :, None] * x[..., None, :] / jnp.sqrt(2).astype(x.dtype)
    flat = products.reshape(*x.shape[:-1], x.shape[-1] ** 2)
    return jnp.concatenate([ones, x, flat], axis=-1)


def polynomial(x: Float[Array, "*axes k"], degree: int) -> Float[Array, "*axes f"]:
    """Return features with the inner product 1 + s + s^2/2! + ... + s^degree/degree!.

    s is q . k. The features are all monomials of the numbers up to this degree, each
    once: f = binomial(k + degree, degree). `taylor` has the same inner product in
    degree 2.
    """
    features = [jnp.ones_like(x[..., :1])]
    for n in range(1, degree + 1):
        factors = list(itertools.combinations_with_replacement(range(x.shape[-1]), n))
        # The square of a monomial's weight is 1 / product of its powers' factorials.
        weights = [
            math.prod(math.factorial(c) for c in np.bincount(f)) ** -0.5
            for f in factors
        ]
        monomials = jnp.prod(x[..., np.asarray(factors)], axis=-1)
        weights = jnp.asarray(weights, x.dtype)
        features.append(monomials * weights.reshape((1,) * (x.ndim - 1) + (-1,)))
    return jnp.concatenate(features, axis=-1)


def polynomial_size(size: int, degree: int) -> int:
    """Return the number of features that `polynomial` computes from `size` numbers."""
    return math.comb(size + degree, degree)


def dpfp(x: Float[Array, "*axes k"], order: int = 3) -> Float[Array, "*axes f"]:
    """Return the deterministic parameter-free projection (arXiv 2102.11174).

    With r = [relu(x), relu(-x)], the features are r_i r_(i-j) for j = 1 .. order, where
    the index i - j wraps around: f = 2 k order.
    """
    r = jnp.concatenate([jax.nn.relu(x), jax.nn.relu(-x)], axis=-1)
    products = [r * jnp.roll(r, j, axis=-1) for j in range(1, order + 1)]
    return jnp.concatenate(products, axis=-1)


def dpfp_size(size: int, order: int = 3) -> int:
    """Return the number of features that `dpfp` computes from `size` numbers."""
    return 2 * size * order


def num_features(name: str, size: int) -> int:
    """Return the number of features that the named map computes from `size` numbers."""
    if name == "taylor":
        return taylor_size(size)
    return 1 + size + size**2 if name == "taylor_full" else size


FEATURE_MAPS = {
    "identity": identity,
    "elu_plus_one": elu_plus_one,
    "relu": relu,
    "taylor": taylor,
    "taylor_full": taylor_full,
}
