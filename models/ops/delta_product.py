"""The delta rule with several writes per token: DeltaProduct.

A token decays the memory once, writes n values at n keys, and is read after its last
write (arXiv 2502.10297). With k_j, v_j and b_j the key, value and strength of write j:

    S = a_t S_{t-1};  S <- S + b_j k_j (v_j - S^T k_j)^T for j = 1..n;  o_t = S^T q_t

Every write multiplies the memory by I - b_j k_j k_j^T, a Householder reflection if b_j
is 2 and the key has length 1. The fast form is that of the delta rule on n tokens in
place of each: the first decays the memory, and the last holds the query.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from . import delta_rule
from .delta_rule import DeltaTokens
from .recurrence import Recurrence


class DeltaProductTokens(NamedTuple):
    """Tokens of the delta rule with several writes each.

    Attributes:
        query: queries, scaled by the caller.
        key: keys of every write, normalised by the caller.
        value: values of every write.
        write_strength: size of each write's gradient step; the memory stays bounded if
            keys have length 1 and this is at most 2.
        log_decay: logarithm of the decay before the first write, at most 0; minus
            infinity erases the memory. None: no decay.
    """

    query: Float[Array, "b t h k"]
    key: Float[Array, "b t r h k"]
    value: Float[Array, "b t r h v"]
    write_strength: Float[Array, "b t r h"]
    log_decay: Float[Array, "b t h"] | None = None


def step(
    token: DeltaProductTokens, memory: Float[Array, "b h k v"]
) -> tuple[Float[Array, "b h v"], Float[Array, "b h k v"]]:
    """Return one token's output (arrays without axis t) and the memory after it."""
    query, key, value, strength, log_decay = token
    read = jnp.zeros(value[:, 0].shape, value.dtype)
    for j in range(key.shape[1]):
        decay = log_decay if j == 0 else None
        write = DeltaTokens(query, key[:, j], value[:, j], strength[:, j], decay)
        read, memory = delta_rule.step(write, memory)
    return read, memory


def interleave(tokens: DeltaProductTokens) -> DeltaTokens:
    """Return the tokens `... t h k` as one token for every write, `... t*r h k`."""
    query, key, value, strength, log_decay = tokens
    time, writes = key.shape[-4:-2]

    def flat(x: Array, after: int) -> Array:
        """Merge the axes of tokens and writes; `after` axes follow them."""
        first = x.ndim - after - 2
        return x.reshape(*x.shape[:first], time * writes, *x.shape[first + 2 :])

    def place(x: Array, after: int, before: int) -> Array:
        """Put the token's array at one of its writes, with zeros at the others."""
        padding = [(0, 0)] * (x.ndim - after) + [(before, writes - 1 - before)]
        padding += [(0, 0)] * after
        return flat(jnp.pad(jnp.expand_dims(x, x.ndim - after), padding), after)

    return DeltaTokens(
        query=place(query, 2, writes - 1),
        key=flat(key, 2),
        value=flat(value, 2),
        write_strength=flat(strength, 1),
        log_decay=None if log_decay is None else place(log_decay, 1, 0),
    )


def _segments(
    segment: Int[Array, "*axes c"] | None, tokens: DeltaProductTokens
) -> Int[Array, "*axes _"] | None:
    return None if segment is None else jnp.repeat(segment, _writes(tokens), axis=-1)


def _writes(tokens: DeltaProductTokens) -> int:
    return tokens.key.shape[-3]


def chunk(
    memory: Float[Array, "b h k v"],
    tokens: DeltaProductTokens,
    segment: Int[Array, "b c"] | None,
) -> tuple[Float[Array, "b h k v"], Float[Array, "b c h v"], Any]:
    """Return the memory after a chunk, its outputs, and arrays for its gradient.

    Args:
        memory: memory before the chunk.
        tokens: tokens of the chunk, `b c ...`.
        segment: document starts in the chunk.
    """
    places = _segments(segment, tokens)
    after, o, saved = delta_rule.chunk(memory, interleave(tokens), places)
    writes = _writes(tokens)
    return after, o[:, writes - 1 :: writes], saved


def chunk_backward(
    memory: Float[Array, "b h k v"],
    tokens: DeltaProductTokens,
    segment: Int[Array, "b c"] | None,
    saved: Any,
    memory_cotangent: Float[Array, "b h k v"],
    o_cotangent: Float[Array, "b c h v"],
) -> tuple[Float[Array, "b h k v"], DeltaProductTokens]:
    """Return the cotangents of the memory before a chunk and of its tokens.

    Args:
        memory: memory before the chunk.
        tokens: as in `chunk`.
        segment: document starts in the chunk.
        saved: arrays that the forward pass saved.
        memory_cotangent: cotangent of the memory after the chunk.
        o_cotangent: cotangent of the outputs.
    """
    flat, pull = jax.vjp(interleave, tokens)
    o = o_cotangent
    # Only the read after a token's last write is an output.
    padding = [(0, 0), (0, 0), (_writes(tokens) - 1, 0), (0, 0), (0, 0)]
    o = jnp.pad(o[:, :, None], padding).reshape(*flat.value.shape)
    before, cotangents = delta_rule.chunk_backward(
        memory, flat, _segments(segment, tokens), saved, memory_cotangent, o
    )
    return before, pull(cotangents)[0]


def all_chunks(
    tokens: DeltaProductTokens,
    segments: Int[Array, "n b c"] | None,
    which: Int[Array, "b n"] | None,
    memory: Float[Array, "b *m h k v"],
) -> tuple[Float[Array, "n b c h v"], Float[Array, "b *m h k v"]]:
    """Return outputs and last memory; only what needs the memory is in the scan."""
    places, writes = _segments(segments, tokens), _writes(tokens)
    o, memory = delta_rule.all_chunks(interleave(tokens), places, which, memory)
    return o[:, :, writes - 1 :: writes], memory


DELTA_PRODUCT = Recurrence(
    tokens=DeltaProductTokens,
    step=step,
    chunk=chunk,
    chunk_backward=chunk_backward,
    all_chunks=all_chunks,
    # Half of the delta rule's: with two writes, its chunks are as long.
    chunk_size=(16, 32),
)


def gated_delta_product(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *,
    write_strength: ArrayLike,
    log_decay: ArrayLike | None = None,
    memory: ArrayLike | None = None,
    reset: Bool[Array, "b t"] | None = None,
    chunk_size: int | None = None,
) -> tuple[Float[Array, "b t h v"], Float[Array, "b h k v"]]:
    """Return every token's read after its writes, and the memory after the last token.

    Args:
        query: `b t h k`, scaled by the caller.
        key: `b t r h k`, normalised by the caller; r writes per token, in order.
        value: `b t r h v`.
        write_strength: `b t r h`, see `DeltaProductTokens`.
        log_decay: `b t h`, at most 0; None: no decay.
        memory: `b h k v`, memory before the first token; None: zeros.
        reset: True where a document begins and the memory restarts at zero.
        chunk_size: tokens per chunk; affects speed only. None: chosen for the backend.

    Raises:
        InputError: an axis has two lengths, for example because heads come before time.
    """
    return DELTA_PRODUCT(
        (query, key, value, write_strength, log_decay),
        memory,
        reset=reset,
        chunk_size=chunk_size,
    )
