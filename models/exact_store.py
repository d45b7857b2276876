"""A store of the keys and values with the highest scores, and of the newest segment."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

_NO_PAIR = -1.0


class Pairs(NamedTuple):
    """Keys and values with a score for every head, at least 0; negative: no pair."""

    key: Float[Array, "b m h k"]
    value: Float[Array, "b m h v"]
    score: Float[Array, "b m h"]


class ExactStore(NamedTuple):
    """Pairs of a document.

    Attributes:
        best: pairs of the earlier segments with the highest scores, for every head.
        segment: pairs of the newest segment; slot s holds the token whose position is s
            modulo the number of slots.
    """

    best: Pairs
    segment: Pairs


def init_store(
    batch_size: int,
    store_size: int,
    segment_size: int,
    heads: int,
    key_size: int,
    value_size: int,
) -> ExactStore:
    """Return an empty store in float32."""

    def empty(slots: int) -> Pairs:
        return Pairs(
            jnp.zeros((batch_size, slots, heads, key_size), jnp.float32),
            jnp.zeros((batch_size, slots, heads, value_size), jnp.float32),
            jnp.full((batch_size, slots, heads), _NO_PAIR, jnp.float32),
        )

    return ExactStore(empty(store_size), empty(segment_size))


def open_segment(
    store: ExactStore, opens: Bool[Array, "b"], fresh: Bool[Array, "b"] | None = None
) -> ExactStore:
    """Return the store at the start of a segment.

    The pairs of the last segment compete with the best so far; the earlier of two equal
    scores wins.

    Args:
        store: store before the segment.
        opens: rows in which a segment begins; others stay unchanged.
        fresh: rows in which a document begins: nothing is held. None: no row.
    """
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), *store)
    slots = store.best.score.shape[1]
    score, which = jax.lax.top_k(jnp.swapaxes(both.score, 1, 2), slots)
    score, which = jnp.swapaxes(score, 1, 2), jnp.swapaxes(which, 1, 2)[..., None]
    if fresh is not None:
        score = jnp.where(fresh[:, None, None], _NO_PAIR, score)
    key, value = (jnp.take_along_axis(a, which, axis=1) for a in both[:2])

    def choose(new: Array, old: Array) -> Array:
        return jnp.where(opens.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    best = jax.tree.map(choose, Pairs(key, value, score), store.best)
    none = jnp.full_like(store.segment.score, _NO_PAIR)
    return ExactStore(
        best, store.segment._replace(score=choose(none, store.segment.score))
    )


def fill_segment(
    store: ExactStore, pairs: Pairs, valid: Bool[Array, "b c"]
) -> ExactStore:
    """Return the store with pairs in all slots of the segment where `valid` is true."""

    def put(new: Array, old: Array) -> Array:
        here = valid.reshape(*valid.shape, *[1] * (new.ndim - 2))
        return jnp.where(here, new.astype(old.dtype), old)

    return store._replace(segment=jax.tree.map(put, pairs, store.segment))


def fill_slot(store: ExactStore, pairs: Pairs, slot: Int[Array, "b"]) -> ExactStore:
    """Return the store with one pair per row, `b 1 ...`, in a slot of the segment."""
    row = jnp.arange(slot.shape[0])

    def put(new: Array, old: Array) -> Array:
        return old.at[row, slot].set(new[:, 0].astype(old.dtype))

    return store._replace(segment=jax.tree.map(put, pairs, store.segment))


def read_store(
    store: ExactStore,
    query: Float[Array, "b c h k"],
    slot: Int[Array, "b c"],
    sink: Float[Array, " h"],
) -> Float[Array, "b c h v"]:
    """Return softmax attention to the best pairs and to the segment so far.

    Args:
        store: store after the queries' tokens.
        query: queries, scaled by the caller.
        slot: slot of each query's token in the segment; it sees the slots up to it.
        sink: logit of a zero value, per head, that every query sees.
    """
    dtype = query.dtype
    wide = jnp.promote_types(dtype, jnp.float32)
    slots = jnp.arange(store.segment.score.shape[1], dtype=jnp.int32)
    causal = slots[None, None, None, :] <= slot[:, None, :, None]
    held = jnp.swapaxes(store.best.score >= 0, 1, 2)[:, :, None, :]
    logits = [
        jnp.where(
            seen,
            jnp.einsum(
                "bchk,bmhk->bhcm",
                query,
                pairs.key.astype(dtype),
                preferred_element_type=wide,
            ),
            -jnp.inf,
        )
        for pairs, seen in zip(store, (held, causal), strict=True)
    ]
    batch, heads, queries, _ = logits[0].shape
    none = jnp.broadcast_to(
        sink.astype(wide)[None, :, None, None], (batch, heads, queries, 1)
    )
    weight = jax.nn.softmax(jnp.concatenate([*logits, none], axis=-1), axis=-1)
    value = jnp.concatenate([pairs.value.astype(dtype) for pairs in store], axis=1)
    o = jnp.einsum(
        "bhcm,bmhv->bchv",
        weight[..., :-1].astype(dtype),
        value,
        preferred_element_type=wide,
    )
    return o.astype(dtype)
