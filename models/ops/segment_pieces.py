"""Cut rows into pieces that end where segments of their documents end."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree

from .chunk_scan import split_chunks


class Pieces(NamedTuple):
    """Consecutive pieces of rows, each of at most `size` tokens.

    A segment of a document ends only at the end of a piece. A piece may hold several
    short documents.

    Attributes:
        token: index of the token in each place of a piece, below `t`.
        real: mask of the places that hold a real token, at the front of each piece.
        place_of: index of each token's place in the pieces, piece by piece.
        last: index of the last token of each piece.
        ends: whether the piece ends with a real token that ends a segment.
    """

    token: Int[Array, "b n c"]
    real: Bool[Array, "b n c"]
    place_of: Int[Array, "b t"]
    last: Int[Array, "b n"]
    ends: Bool[Array, "b n"]


def cut_pieces(
    place: Int[Array, "b t"], valid: Bool[Array, "b t"] | None, size: int
) -> Pieces:
    """Cut rows every `size` tokens, and where a segment of a document begins.

    Segments begin at multiples of `size` in a document. There are at most
    2 ceil(t / size) pieces; the last ones may be empty.

    Args:
        place: position of each token in its document.
        valid: mask of real tokens, at the front of each row; None: all are real.
        size: tokens per segment.
    """
    time = place.shape[1]
    count = 2 * -(-time // size)
    index = jnp.arange(time, dtype=jnp.int32)[None, :]
    begins = (index % size == 0) | ((place % size == 0) & (place > 0))
    piece = jnp.cumsum(begins, axis=1, dtype=jnp.int32) - 1
    number = jnp.arange(count + 1, dtype=jnp.int32)[None, :, None]
    start = jnp.sum(piece[:, None, :] < number, axis=2, dtype=jnp.int32)
    start, end = start[:, :-1], start[:, 1:]
    token = start[:, :, None] + jnp.arange(size, dtype=jnp.int32)[None, None, :]
    real = token < end[:, :, None]
    token = jnp.minimum(token, time - 1)
    last = jnp.maximum(end - 1, 0)
    ends = (take(place, last) + 1) % size == 0
    ends = ends & (end > start)
    if valid is not None:
        real, ends = real & take(valid, token), ends & take(valid, last)
    place_of = piece * size + index - take(start, piece)
    return Pieces(token, real, place_of, last, ends)


def take(x: Array, index: Int[Array, "b *n"]) -> Array:
    """Return the entries `b *n ...` of `b t ...` at an index of the second axis."""
    # Not -1 for a length here: a batch may have no rows.
    flat = index.reshape(index.shape[0], math.prod(index.shape[1:]))
    flat = flat.reshape(flat.shape + (1,) * (x.ndim - 2))
    found = jnp.take_along_axis(x, flat, axis=1)
    return found.reshape(index.shape + x.shape[2:])


def to_pieces(tokens: PyTree[Array], pieces: Pieces) -> PyTree[Array]:
    """Return every leaf `b t ...` as `n b c ...`."""
    batch, count, size = pieces.token.shape
    flat = pieces.token.reshape(batch, count * size)
    return split_chunks(jax.tree.map(lambda x: take(x, flat), tokens), size)


def from_pieces(x: Array, pieces: Pieces) -> Array:
    """Return `n b c ...` as `b t ...`."""
    x = jnp.moveaxis(x, 0, 1)
    x = x.reshape(x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:])
    return take(x, pieces.place_of)
