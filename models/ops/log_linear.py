"""Log-linear attention: the memory of a document in buckets of 1, 2, 4, ... tokens.

The tokens before position t are divided by the binary digits of t (a Fenwick tree):
bucket j, of 2^j tokens, exists if digit j of t is 1, and older tokens are in larger
buckets. Every bucket is a memory of one rule, and all of them decay and erase with
every token. With S_t^(0) the write of token t alone, S_t^(j+1) bucket j at position t,
and weights l_t of the levels (arXiv 2506.04761):

    o_t = sum over levels i of l_t^(i) (S_t^(i))^T q_t

Token s is in level bit_length(t xor s) at token t. After token t, its write and all
buckets below the lowest digit of t + 1 that is 1 merge into that bucket.

The chunk form needs the linear form of the rule's chunk (`LinearChunk`). Inside the
chunk, the share of value s in output t is multiplied by l_t of the pair's level. If a
chunk begins at position p, token t finds bucket j of p in level

    max(j + 1, bit_length(t xor p))

so a chunk reads at most one memory per digit of p, and documents may begin anywhere.
Chunks cost the same as in the rule, plus one read and one map for each bucket.
"""

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .linear_chunk import LinearChunk
from .recurrence import Recurrence, token_first

Buckets = tuple[Float[Array, "b h k v"], ...]


class LogLinearTokens(NamedTuple):
    """Tokens of log-linear attention.

    Attributes:
        number: number of the token in its document, from 1; 0: padding.
        level_weight: weight of each level's read; the last one is used for all higher
            levels too.
        rule: tokens of the rule.
    """

    number: Int[Array, "b t"]
    level_weight: Float[Array, "b t h l"]
    rule: Any

    @property
    def query(self) -> Float[Array, "b t h k"]:
        """Queries of the tokens."""
        return self.rule.query


@lru_cache
def log_linear(
    rule: Recurrence[Any, Any], buckets: int
) -> Recurrence[LogLinearTokens, Buckets]:
    """Return the operation over a rule with a `linear_chunk`.

    The memory is a tuple of arrays `b h k v`, one for each bucket. Buckets that the
    document has not reached are zero, and the last bucket holds all larger ones.

    Args:
        rule: rule of the buckets.
        buckets: number of buckets.
    """
    return Recurrence(
        tokens=LogLinearTokens,
        memory_axes=("b h k v",) * buckets,
        step=partial(step, rule),
        chunk=partial(chunk, rule),
        # Long chunks pay for the buckets that each chunk reads.
        chunk_size=(128, 64),
    )


def bit_length(number: Int[Array, "*axes"]) -> Int[Array, "*axes"]:
    """Return the number of binary digits; 0 for 0."""
    return 32 - jax.lax.clz(number.astype(jnp.int32))


def num_buckets(longest: int) -> int:
    """Return how many buckets a document of `longest` tokens needs, ceil(log2) + 1.

    Without tokens it needs none.
    """
    return (longest - 1).bit_length() + 1 if longest > 0 else 0


def step(
    rule: Recurrence[Any, Any], token: LogLinearTokens, memory: Buckets
) -> tuple[Float[Array, "b h v"], Buckets]:
    """Return one token's output (arrays without axis t) and the buckets after it."""
    size, value, dtype = len(memory), token.rule.value, memory[0].dtype
    alone = token.rule._replace(value=value.astype(dtype))
    weight = token.level_weight.astype(dtype)
    read, written = rule.step(alone, jnp.zeros_like(memory[0]))
    o = weight[:, :, 0, None] * read
    # Without a value, a rule decays and erases.
    nothing = alone._replace(value=jnp.zeros_like(alone.value))
    stacked = jnp.stack(memory, axis=2)
    reads, stacked = jax.vmap(partial(rule.step, nothing), 2, 2)(stacked)
    level = jnp.minimum(jnp.arange(size) + 1, weight.shape[2] - 1)
    o = o + jnp.einsum("bhm,bhmv->bhv", weight[:, :, level], reads)
    # The lowest digit of the number that is 1; padding has none.
    merged = bit_length(token.number & -token.number) - 1
    merged = jnp.minimum(merged, size - 1)[:, None]
    bucket = jnp.arange(size)[None, :]
    lower = (bucket < merged)[:, None, :, None, None]
    target = (bucket == merged)[:, None, :, None, None]
    total = written + jnp.sum(jnp.where(lower, stacked, 0), axis=2)
    stacked = jnp.where(lower, 0, stacked)
    stacked = stacked + jnp.where(target, total[:, :, None], 0)
    return o.astype(value.dtype), tuple(stacked[:, :, j] for j in range(size))


class Places(NamedTuple):
    """Positions of a chunk, in the documents.

    Attributes:
        place: position of every token.
        first: position of the carried document's next token before the chunk.
        last: position of the next token after the chunk.
        kept: whether the chunk's last document is the carried one.
        unknown: whether the chunk has no token of the carried document, so that
            `first` is not known.
        written: real tokens of the last document.
    """

    place: Int[Array, "b c"]
    first: Int[Array, "b"]
    last: Int[Array, "b"]
    kept: Bool[Array, "b"]
    unknown: Bool[Array, "b"]
    written: Bool[Array, "b c"]


def chunk_places(
    number: Int[Array, "b c"], segment: Int[Array, "b c"] | None
) -> Places:
    """Return the positions of a chunk.

    Args:
        number: number of each token in its document, from 1; 0: padding.
        segment: document starts in the chunk.
    """
    if segment is None:
        segment = jnp.zeros_like(number)
    real, end = number > 0, segment[:, -1:]
    carried, written = real & (segment == 0), real & (segment == end)
    most = jnp.iinfo(jnp.int32).max
    first = jnp.min(jnp.where(carried, number - 1, most), axis=1)
    first = jnp.where(jnp.any(carried, axis=1), first, 0)
    last = jnp.max(jnp.where(written, number, 0), axis=1)
    last = jnp.where(jnp.any(written, axis=1), last, first)
    return Places(
        place=jnp.maximum(number - 1, 0),
        first=first,
        last=last,
        kept=end[:, 0] == 0,
        unknown=jnp.logical_not(jnp.any(carried, axis=1)),
        written=written,
    )


def chunk(
    rule: Recurrence[Any, Any],
    memory: Buckets,
    tokens: LogLinearTokens,
    segment: Int[Array, "b c"] | None,
) -> tuple[Buckets, Float[Array, "b c h v"], None]:
    """Return the buckets after a chunk, and its outputs.

    Args:
        rule: rule of the buckets.
        memory: buckets before the chunk.
        tokens: tokens of the chunk, `b c h ...`.
        segment: document starts in the chunk.
    """
    assert rule.linear_chunk is not None
    dtype = memory[0].dtype
    part = rule.linear_chunk(tokens.rule, segment, dtype)
    value = jnp.swapaxes(tokens.rule.value, 1, 2).astype(dtype)
    weight = jnp.swapaxes(tokens.level_weight, 1, 2).astype(dtype)
    places, highest = chunk_places(tokens.number, segment), weight.shape[3] - 1

    def of_levels(level: Int[Array, "b c x"]) -> Float[Array, "b h c x"]:
        """Return each token's weight of the given levels, as products with masks."""
        mask = level[..., None] == jnp.arange(highest + 1)[None, None, None, :]
        return jnp.einsum("bhcl,bcxl->bhcx", weight, mask.astype(dtype))

    place = places.place
    level = bit_length(place[:, :, None] ^ place[:, None, :])
    within = part.within * of_levels(jnp.minimum(level, highest))
    o = jnp.einsum("bhij,bhjv->bhiv", within, value)
    bucket = jnp.arange(len(memory))[None, None, :]
    level = bit_length(place ^ places.first[:, None])[..., None]
    level = jnp.maximum(bucket + 1, level)
    carried = of_levels(jnp.minimum(level, highest))
    read, memory = _pass_buckets(part, memory, carried, value, places)
    return memory, token_first(o + read, tokens.rule.value), None


def _pass_buckets(
    part: LinearChunk,
    memory: Buckets,
    weight: Float[Array, "b h c m"],
    value: Float[Array, "b h c v"],
    places: Places,
) -> tuple[Float[Array, "b h c v"], Buckets]:
    """Return the weighted reads of all buckets, and the buckets after the chunk.

    A bucket that is empty in every row, and that stays empty, costs nothing.
    """
    last = len(memory) - 1
    goes_to = bit_length(places.last[:, None] ^ places.place) - 1
    goes_to = jnp.where(places.written, jnp.minimum(goes_to, last), -1)
    # Digits of the position up to the highest that changed merge into that bucket.
    changed = jnp.where(places.kept, bit_length(places.first ^ places.last), 0)
    target = jnp.minimum(changed - 1, last)[:, None, None, None]
    read = jnp.zeros((*part.reads.shape[:3], memory[0].shape[3]), value.dtype)
    merged = jnp.zeros_like(memory[0])
    after = []
    for bucket, held in enumerate(memory):
        digits = places.first >> bucket
        full = digits > 0 if bucket == last else digits & 1 == 1
        # Padding must leave every bucket unchanged, and a new document empties them.
        full = jnp.any(full | places.unknown)

        def use(
            read: Array, held: Array, merged: Array, bucket: int = bucket
        ) -> tuple[Array, Array, Array]:
            queries = part.reads * weight[..., bucket, None]
            read = read + jnp.einsum("bhck,bhkv->bhcv", queries, held)
            kept, lower = _carry(part, held), bucket < target
            merged = merged + jnp.where(lower, kept, 0)
            return read, jnp.where(lower, 0, kept), merged

        def add(held: Array, merged: Array, bucket: int = bucket) -> Array:
            goes = (goes_to == bucket)[:, None, :, None]
            keys = jnp.where(goes, part.writes, 0)
            held = held + jnp.where(bucket == target, merged, 0)
            return held + jnp.einsum("bhck,bhcv->bhkv", keys, value)

        read, held, merged = jax.lax.cond(
            full, use, lambda *same: same, read, held, merged
        )
        grows = jnp.any(goes_to == bucket) | jnp.any(target == bucket)
        held = jax.lax.cond(grows, add, lambda held, merged: held, held, merged)
        after.append(held)
    return read, tuple(after)


def _carry(
    part: LinearChunk, memory: Float[Array, "b h k v"]
) -> Float[Array, "b h k v"]:
    """Return what a chunk leaves of a memory before it."""
    kept = memory if part.kept is None else memory * part.kept[..., None, None]
    if part.erased is None:
        return kept
    return kept - jnp.einsum("bhkr,bhrv->bhkv", part.erased, memory)
