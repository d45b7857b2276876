"""Kernel ridge regression of values on keys, for every prefix of a sequence.

o_t = kappa(q_t, K_t) (kappa(K_t, K_t) + r I)^-1 V_t, where K_t and V_t are the keys and
values of the document up to token t (Intention, arXiv 2305.10203).

One Cholesky factor L of the whole kernel matrix serves all prefixes: the leading block
of L is the factor of the leading block. With W = L^-1 V and Z = L^-1 kappa(K, Q),

    o_t = sum_(s <= t) Z_st W_s

because a row of W or Z needs only the rows before it. The kernel between documents is
0, so the documents of a row share one factor.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Bool, Float, Int

from .matrix_product import exact_product

KernelName = Literal["linear", "exponential"]
Kernel = Callable[[Array, Array], Array]


class Fit(NamedTuple):
    """Regression on the keys so far, one row per token.

    Attributes:
        key: keys.
        factor: rows of L, lower triangular.
        white: rows of W = L^-1 V.
    """

    key: Float[Array, "b s h k"]
    factor: Float[Array, "b h s s"]
    white: Float[Array, "b h s v"]


def make_kernel(name: KernelName, bandwidth: float) -> Kernel:
    """Return kappa, which maps `b t h k` and `b s h k` to `b h t s`.

    linear: q . k. exponential: exp((q . k - 1) / bandwidth), which is 1 for equal
    vectors of length 1.
    """

    def kernel(
        query: Float[Array, "b t h k"], key: Float[Array, "b s h k"]
    ) -> Float[Array, "b h t s"]:
        product = exact_product("bthk,bshk->bhts", query, key)
        if name == "linear":
            return product
        return jnp.exp((product - 1) / bandwidth)

    return kernel


def extend_fit(
    held: Fit,
    held_segment: Int[Array, "b s"],
    key: Float[Array, "b t h k"],
    value: Float[Array, "b t h v"],
    segment: Int[Array, "b t"],
    *,
    kernel: Kernel,
    ridge: Float[Array, " h"],
) -> Fit:
    """Return the regression with further tokens, s + t rows.

    Args:
        held: regression on earlier tokens.
        held_segment: document number of every held row; negative: the row is empty.
        key: keys of the new tokens.
        value: values of the new tokens.
        segment: document number of every new token.
        kernel: see `make_kernel`.
        ridge: number to add to the diagonal, above 0.
    """
    held = _without_empty_rows(held, held_segment >= 0)
    slots = held.key.shape[1]
    right = jnp.swapaxes(value, 1, 2)
    matrix = jnp.where(_same(segment, segment), kernel(key, key), 0)
    unit = jnp.eye(key.shape[1], dtype=matrix.dtype)[None, None]
    matrix = matrix + ridge[None, :, None, None] * unit
    keys = jnp.concatenate([held.key, key], axis=1)
    if slots == 0:
        factor = jnp.linalg.cholesky(matrix)
        return Fit(keys, factor, _solve(factor, right))
    # The new rows are [B, L'] with B L^T = kappa(new, held) and L' L'^T the rest.
    across = jnp.where(_same(held_segment, segment), kernel(held.key, key), 0)
    across = jnp.swapaxes(_solve(held.factor, across), -1, -2)
    factor = jnp.linalg.cholesky(
        matrix - exact_product("bhts,bhus->bhtu", across, across)
    )
    white = _solve(factor, right - exact_product("bhts,bhsv->bhtv", across, held.white))
    top = jnp.pad(held.factor, ((0, 0), (0, 0), (0, 0), (0, key.shape[1])))
    bottom = jnp.concatenate([across, factor], axis=-1)
    return Fit(
        keys,
        jnp.concatenate([top, bottom], axis=2),
        jnp.concatenate([held.white, white], axis=2),
    )


def read_fit(
    fit: Fit,
    seen: Bool[Array, "b t s"],
    query: Float[Array, "b t h k"],
    *,
    kernel: Kernel,
) -> Float[Array, "b t h v"]:
    """Return every query's prediction from the rows that it sees.

    Args:
        fit: regression on all tokens.
        seen: rows that a query sees: its document, up to its token.
        query: queries.
        kernel: kernel of the regression.
    """
    seen = jnp.swapaxes(seen, 1, 2)[:, None]
    # Rows that are not seen come after the seen ones, or belong to other documents,
    # where the factor is 0. So they do not change the seen rows of the solution.
    right = jnp.where(seen, kernel(fit.key, query), 0)
    answer = jnp.where(seen, _solve(fit.factor, right), 0)
    return exact_product("bhst,bhsv->bthv", answer, fit.white)


def append_row(
    fit: Fit,
    position: Int[Array, "b"],
    query: Float[Array, "b h k"],
    key: Float[Array, "b h k"],
    value: Float[Array, "b h v"],
    *,
    kernel: Kernel,
    ridge: Float[Array, " h"],
) -> tuple[Float[Array, "b h v"], Fit]:
    """Write one token in the row `position`, and return its prediction and the fit.

    Args:
        fit: regression on the rows before `position`; later rows are empty.
        position: number of tokens of the document so far.
        query: query of the token.
        key: key of the token.
        value: value of the token.
        kernel: kernel of the regression.
        ridge: number to add to the diagonal.
    """
    batch, slots = fit.key.shape[:2]
    real = jnp.arange(slots)[None, :] < position[:, None]
    past = _without_empty_rows(fit, real)
    pair = jnp.stack([key, query], axis=1)
    right = jnp.where(real[:, None, :, None], kernel(past.key, pair), 0)
    answer = _solve(past.factor, right)
    own = kernel(key[:, None], pair)[:, :, 0]
    inner = exact_product("bhs,bhsn->bhn", answer[..., 0], answer)
    corner = jnp.sqrt(own[..., 0] + ridge[None] - inner[..., 0])
    last = (own[..., 1] - inner[..., 1]) / corner
    predicted = exact_product("bhsn,bhsv->bhnv", answer, past.white)
    white = (value - predicted[:, :, 0]) / corner[..., None]
    output = predicted[:, :, 1] + last[..., None] * white
    slot = jnp.arange(slots)[None, None, :] == position[:, None, None]
    row = jnp.where(slot, corner[..., None], answer[..., 0])
    rows = jnp.arange(batch)
    return output, Fit(
        fit.key.at[rows, position].set(key.astype(fit.key.dtype)),
        fit.factor.at[rows, :, position].set(row),
        fit.white.at[rows, :, position].set(white),
    )


def take_rows(
    whole: Fit, old: Fit, source: Int[Array, "b s"], taken: Bool[Array, "b s"]
) -> Fit:
    """Return the rows `source` of a regression, and rows of `old` where not taken."""
    columns = source[:, None, None, :]
    rows = source[:, None, :, None]
    factor = jnp.take_along_axis(whole.factor, rows, axis=2)
    factor = jnp.take_along_axis(factor, columns, axis=3)
    both = taken[:, None, :, None] & taken[:, None, None, :]
    white = jnp.take_along_axis(whole.white, rows, axis=2)
    key = jnp.take_along_axis(whole.key, source[:, :, None, None], axis=1)
    return Fit(
        jnp.where(taken[:, :, None, None], key, old.key),
        jnp.where(both, factor, old.factor),
        jnp.where(taken[:, None, :, None], white, old.white),
    )


def _without_empty_rows(fit: Fit, real: Bool[Array, "b s"]) -> Fit:
    """Return the regression with rows of the identity and zeros where not real."""
    unit = jnp.eye(real.shape[1], dtype=fit.factor.dtype)[None, None]
    both = real[:, None, :, None] & real[:, None, None, :]
    return Fit(
        fit.key,
        jnp.where(both, fit.factor, unit),
        jnp.where(real[:, None, :, None], fit.white, 0),
    )


def _same(left: Int[Array, "b s"], right: Int[Array, "b t"]) -> Bool[Array, "b 1 s t"]:
    return left[:, None, :, None] == right[:, None, None, :]


_solve = partial(solve_triangular, lower=True)
