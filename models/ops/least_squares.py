"""Least squares over decayed tokens as a plain function; see `mesa`."""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from .mesa import MesaMemory, Solver, mesa


def least_squares(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *,
    ridge: ArrayLike,
    write_strength: ArrayLike | None = None,
    log_decay: ArrayLike | None = None,
    memory: tuple[ArrayLike, ArrayLike] | None = None,
    reset: Bool[Array, "b t"] | None = None,
    solver: Solver = "conjugate_gradients",
    chunk_size: int | None = None,
) -> tuple[Float[Array, "b t h v"], MesaMemory]:
    """Return the best linear map at every token's query, and the memory at the end.

    The map minimises the sum of w_s |v_s - M k_s|^2 over the tokens so far plus
    ridge |M|^2 (arXiv 2506.05233). The weight w_s is the token's write strength times
    all later decays.

    Args:
        query: `b t h k`.
        key: `b t h k`.
        value: `b t h v`.
        ridge: a number above 0, or `b t h k`: one per token and channel of the key.
        write_strength: `b t h`; None: 1.
        log_decay: `b t h`, at most 0; None: no decay.
        memory: sums before the first token, `b h k k` and `b h k v`; None: zeros.
        reset: True where a document begins and the memory restarts at zero.
        solver: conjugate gradients, or exact: a Cholesky factor for every token.
        chunk_size: tokens per chunk; affects speed only. None: chosen for the backend.

    Raises:
        InputError: an axis has two lengths, for example because heads come before time.
    """
    query = jnp.asarray(query)
    ridge = jnp.broadcast_to(jnp.asarray(ridge, query.dtype), query.shape)
    if write_strength is None:
        write_strength = jnp.ones(query.shape[:3], query.dtype)
    return mesa(solver=solver)(
        (query, key, value, ridge, write_strength, log_decay),
        None if memory is None else MesaMemory(*map(jnp.asarray, memory)),
        reset=reset,
        chunk_size=chunk_size,
    )
