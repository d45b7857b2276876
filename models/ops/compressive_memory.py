"""Compressive memory: one matrix per head, written once per segment.

Reads see the matrix from before the current segment.

Infini-attention (arXiv 2404.07143), with features f(x) = elu(x) + 1:

    o_t = f(q_t) M / (f(q_t) . z)
    M <- M + sum_s f(k_s) e_s^T,  z <- z + sum_s f(k_s)    after the segment
"""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .delta_rule import DELTA_RULE, DeltaTokens
from .feature_maps import elu_plus_one
from .normalisation import l2_normalise
from .places import places
from .recurrence import scan_steps, select
from .windows import Part, window_scan

Write = Literal["sum", "delta", "exact_delta"]
"""Sums that a segment adds. `sum`: e_s = v_s. `delta`: e_s = v_s minus the read at k_s
before the segment. `exact_delta`: the delta rule, token by token, without z."""

_EPSILON = 1e-6


class CompressiveTokens(NamedTuple):
    """Tokens of the memory; features of queries and keys are computed here."""

    query: Float[Array, "b t h k"]
    key: Float[Array, "b t h k"]
    value: Float[Array, "b t h v"]


class CompressiveMemory(NamedTuple):
    """Memory of each head, float32.

    Attributes:
        matrix: M with all tokens so far.
        total: z, the sum of the keys' features so far.
        matrix_before: M before the segment, for reads.
        total_before: z before the segment.
        position: number of tokens of the document so far.
    """

    matrix: Float[Array, "b h k v"]
    total: Float[Array, "b h k"]
    matrix_before: Float[Array, "b h k v"]
    total_before: Float[Array, "b h k"]
    position: Int[Array, "b"]


def new_compressive_memory(
    batch_size: int, num_heads: int, key_size: int, value_size: int
) -> CompressiveMemory:
    """Return an empty memory."""
    matrix = jnp.zeros((batch_size, num_heads, key_size, value_size), jnp.float32)
    position = jnp.zeros((batch_size,), jnp.int32)
    return CompressiveMemory(matrix, matrix[..., 0], matrix, matrix[..., 0], position)


def compressive_step(
    token: CompressiveTokens,
    memory: CompressiveMemory,
    *,
    segment_size: int,
    write: Write,
) -> tuple[Float[Array, "b h v"], CompressiveMemory]:
    """Return the read of one token, given without axis t, and the memory after it."""
    opens = memory.position % segment_size == 0
    longer = CompressiveTokens(*(x[:, None] for x in token))
    prepared = _features(longer, memory.matrix.dtype, write)
    read, memory = _read_and_write(prepared, memory, opens, write)
    memory = memory._replace(position=memory.position + 1)
    return read[:, 0].astype(token.value.dtype), memory


def compressive_recurrent(
    tokens: CompressiveTokens,
    memory: CompressiveMemory,
    *,
    segment_size: int,
    write: Write,
    reset: Bool[Array, "b t"] | None = None,
    valid: Bool[Array, "b t"] | None = None,
) -> tuple[Float[Array, "b t h v"], CompressiveMemory]:
    """Return every token's read and the last memory, step by step (reference).

    Args:
        tokens: tokens of the sequence.
        memory: memory before the first token.
        segment_size: tokens per segment, counted from the document's start.
        write: what a segment adds.
        reset: True where a document begins.
        valid: mask of real tokens; others change nothing.
    """
    step = partial(compressive_step, segment_size=segment_size, write=write)
    empty = jax.tree.map(jnp.zeros_like, memory)
    return scan_steps(step, tokens, memory, reset=reset, valid=valid, initial=empty)


def compressive_chunkwise(
    tokens: CompressiveTokens,
    memory: CompressiveMemory,
    *,
    segment_size: int,
    write: Write,
    reset: Bool[Array, "b t"] | None = None,
    valid: Bool[Array, "b t"] | None = None,
) -> tuple[Float[Array, "b t h v"], CompressiveMemory]:
    """Return the same as `compressive_recurrent`, by one product per segment.

    Arguments are those of `compressive_recurrent`; real tokens are at the front of a
    row.
    """
    time = tokens.query.shape[1]
    if time == 0:
        return jnp.zeros_like(tokens.value), memory
    length = None if valid is None else jnp.sum(valid, axis=1, dtype=jnp.int32)
    place, position = places(memory.position, time, reset=reset, length=length)

    def body(
        memory: CompressiveMemory, tokens: CompressiveTokens, part: Part
    ) -> tuple[CompressiveMemory, Array]:
        if part.fresh is not None:
            empty = jax.tree.map(jnp.zeros_like, memory)
            memory = select(part.fresh, empty, memory)
        read, memory = _read_and_write(tokens, memory, part.opens, write)
        return memory, read

    # Empty slots hold keys of zeros, which no rule writes.
    read, memory = window_scan(
        body,
        memory,
        _features(tokens, memory.matrix.dtype, write),
        place=place,
        update_every=segment_size,
        chunk_size=segment_size,
        reset=reset,
        valid=valid,
    )
    memory = memory._replace(position=position)
    return read.astype(tokens.value.dtype), memory


def _features(
    tokens: CompressiveTokens, dtype: jnp.dtype, write: Write
) -> CompressiveTokens:
    """Return the tokens with features of queries and keys, in the memory's type."""
    query, key = (elu_plus_one(x.astype(dtype)) for x in tokens[:2])
    if write == "exact_delta":
        query, key = l2_normalise(query), l2_normalise(key)
    return CompressiveTokens(query, key, tokens.value.astype(dtype))


def _read_and_write(
    tokens: CompressiveTokens,
    memory: CompressiveMemory,
    opens: Bool[Array, "b"],
    write: Write,
) -> tuple[Float[Array, "b t h v"], CompressiveMemory]:
    """Read and write tokens of one segment, as features.

    Args:
        tokens: tokens of the segment, in full or in part.
        memory: memory before these tokens.
        opens: True for rows in which they begin the segment.
        write: what a segment adds.
    """
    query, key, value = tokens
    matrix, total = memory.matrix, memory.total
    before = select(opens, (matrix, total), (memory.matrix_before, memory.total_before))

    def read(x: Float[Array, "b t h k"]) -> Float[Array, "b t h v"]:
        found = jnp.einsum("bthk,bhkv->bthv", x, before[0])
        if write == "exact_delta":
            return found
        weight = jnp.einsum("bthk,bhk->bth", x, before[1])
        return found / (weight + _EPSILON)[..., None]

    if write == "exact_delta":
        strength = jnp.ones(key.shape[:3], key.dtype)
        delta = DeltaTokens(query, key, value, strength)
        matrix = DELTA_RULE.write(delta, matrix)
    else:
        error = value - read(key) if write == "delta" else value
        matrix = matrix + jnp.einsum("bthk,bthv->bhkv", key, error)
        total = total + jnp.sum(key, axis=1)
    return read(query), memory._replace(
        matrix=matrix, total=total, matrix_before=before[0], total_before=before[1]
    )
