"""Deep memory that computes its weights after every token, unlike the dual form.

Titans (arXiv 2501.00663, section 3.2) describes these scans: in every window, take the
gradients of all tokens at the weights before it, then run one associative scan for the
momentum and one for the weights. Each scan runs over arrays as large as the memory
times the window.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from memzoo.errors import InputError

Arrays = dict[str, Float[Array, "..."]]


class Mlp(NamedTuple):
    """Memory of two matrices."""

    up: Float[Array, "*b k f"]
    down: Float[Array, "*b f v"]


def titans_mlp(x: Arrays, options: dict[str, Any]) -> Float[Array, "b t h v"]:
    """Compute Titans with an MLP of two matrices as memory.

    Raises:
        InputError: the length is not a multiple of the window.
    """
    rows, time, heads, _ = x["k"].shape
    window = options["update_every"]
    if time % window:
        raise InputError(f"{time} tokens are not a multiple of the window, {window}")

    def windows(a: Array) -> Float[Array, "n b h c ..."]:
        a = a.reshape(rows, time // window, window, *a.shape[2:])
        return jnp.moveaxis(a, (1, 3), (0, 2))

    names = ("q", "k", "v", "learning_rate", "momentum", "forget")
    weights = Mlp(*(_for_rows(x[name], rows) for name in ("memory_up", "memory_down")))
    carry = weights, jax.tree.map(jnp.zeros_like, weights)
    tokens = tuple(windows(x[name]) for name in names)
    _, read = jax.lax.scan(jax.checkpoint(_window), carry, tokens)
    return jnp.moveaxis(read, (0, 2), (1, 3)).reshape(rows, time, heads, -1)


def _window(
    carry: tuple[Mlp, Mlp], tokens: tuple[Array, ...]
) -> tuple[tuple[Mlp, Mlp], Float[Array, "b h c v"]]:
    """Compute one window, with the weights after each of its tokens."""
    weights, momentum = carry
    q, k, v, learning_rate, kept, forget = tokens
    over_tokens = jax.vmap(jax.grad(_loss), in_axes=(None, 0, 0))
    gradients = jax.vmap(jax.vmap(over_tokens))(weights, k, v)
    steps = jax.tree.map(lambda u: -u * _wide(learning_rate, u), gradients)
    momenta = _accumulate(kept, steps, momentum)
    memories = _accumulate(1 - forget, momenta, weights)
    read = jax.vmap(jax.vmap(jax.vmap(_apply)))(memories, q)
    last = jax.tree.map(lambda w: w[:, :, -1], (memories, momenta))
    return last, read


def _apply(weights: Mlp, x: Float[Array, "k"]) -> Float[Array, "v"]:
    return jax.nn.gelu(x @ weights.up, approximate=True) @ weights.down


def _loss(weights: Mlp, key: Array, value: Array) -> Float[Array, ""]:
    return jnp.sum(jnp.square(_apply(weights, key) - value))


def _accumulate(factor: Float[Array, "b h c"], added: Mlp, first: Mlp) -> Mlp:
    """Return every y_t of y_t = factor_t y_(t-1) + added_t, starting from `first`."""

    def compose(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
        return a[0] * b[0], a[1] * b[0] + b[1]

    def one(added: Array, first: Array) -> Array:
        by = _wide(factor, added)
        start = added.at[:, :, 0].add(by[:, :, 0] * first)
        return jax.lax.associative_scan(compose, (by, start), axis=2)[1]

    return jax.tree.map(one, added, first)


def _wide(x: Float[Array, "b h c"], like: Array) -> Array:
    return x.reshape(x.shape + (1,) * (like.ndim - 3))


def _for_rows(weight: Float[Array, "h i o"], rows: int) -> Float[Array, "b h i o"]:
    return jnp.broadcast_to(weight[None], (rows, *weight.shape))
