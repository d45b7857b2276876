"""The store of the best pairs against sorting all pairs at once."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from memzoo.models.exact_store import (
    Pairs,
    fill_segment,
    fill_slot,
    init_store,
    open_segment,
    read_store,
)

BATCH, HEADS, SIZE, BEST, SEGMENT, TIME = 2, 2, 3, 4, 3, 11


def _case():
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.standard_normal((BATCH, TIME, HEADS, *shape)).astype(np.float32)

    pairs: Any = (draw(SIZE), draw(SIZE), abs(draw()))
    return draw(SIZE), Pairs(*pairs)


@jax.jit
def _write(store, pairs, slot, opens, fresh):
    return fill_slot(open_segment(store, opens, fresh), pairs, slot)


def _filled(pairs, begins=0):
    """Return the store after all tokens; row 1 begins a document at `begins`."""
    store = init_store(BATCH, BEST, SEGMENT, HEADS, SIZE, SIZE)
    for t in range(TIME):
        place = np.array([t, t - begins if t >= begins else t])
        now = jax.tree.map(lambda a, t=t: jnp.asarray(a[:, t : t + 1]), pairs)
        slot = np.asarray(place % SEGMENT, np.int32)
        store = _write(store, now, jnp.asarray(slot), slot == 0, (place == 0) & (t > 0))
    return store


def test_the_best_pairs_of_earlier_segments_stay():
    _, pairs = _case()
    store = _filled(pairs, begins=2)
    # Row 0 has 9 tokens in three segments, row 1 two segments from its third token on.
    for row, (first, last) in enumerate([(0, 9), (2, 8)]):
        for head in range(HEADS):
            scores = pairs.score[row, first:last, head]
            best = np.argsort(-scores)[:BEST] + first
            for held, given in zip(store.best, pairs, strict=True):
                np.testing.assert_array_equal(
                    held[row, :, head], given[row, best, head]
                )


def test_reads_are_softmax_attention_with_a_sink():
    query, pairs = _case()
    store = _filled(pairs)
    sink = np.array([0.3, -0.2], np.float32)
    slot = np.full((BATCH, 1), 1, np.int32)
    o = jax.jit(read_store)(store, query[:, -1:], slot, sink)
    for row, head in np.ndindex(BATCH, HEADS):
        best = np.argsort(-pairs.score[row, :9, head])[:BEST]
        seen = [*best, 9, 10]
        weight = np.exp(pairs.key[row, seen, head] @ query[row, -1, head])
        weight = weight / (weight.sum() + np.exp(sink[head]))
        np.testing.assert_allclose(
            o[row, 0, head], weight @ pairs.value[row, seen, head], rtol=1e-5
        )


def test_a_segment_is_filled_where_tokens_are_real():
    _, pairs = _case()
    before = _filled(pairs)
    new = jax.tree.map(lambda a: a[:, :SEGMENT] + 1, pairs)
    valid = np.array([[True, False, True], [False, False, False]])
    after = jax.jit(fill_segment)(before, new, valid)
    np.testing.assert_array_equal(after.segment.key[0, 0], new.key[0, 0])
    np.testing.assert_array_equal(after.segment.score[0, 1], before.segment.score[0, 1])
    np.testing.assert_array_equal(after.segment.value[1], before.segment.value[1])
