"""The ring of cached memories and their weights, against loops."""

import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.cached_memories import (
    Cache,
    Snapshots,
    segments_of_slots,
    update_cache,
    visible_snapshots,
    weigh,
)
from memzoo.models.interface import Layout


@pytest.mark.parametrize("slots", [1, 3])
def test_slots_hold_the_latest_segments(slots):
    for done in range(8):
        held = np.full(slots, -1)
        for segment in range(done):
            held[segment % slots] = segment
        found = segments_of_slots(jnp.array([done]), slots)
        np.testing.assert_array_equal(found[0], held)


def test_a_token_reads_earlier_segments_of_its_document():
    index = jnp.array([[-1, 0, 1, 2, 0]])
    document = jnp.array([[0, 0, 0, 0, 1]])
    snapshots = Snapshots(Cache(None, jnp.zeros((1, 5, 1))), index, document)
    segment, of_token = jnp.array([[0, 2, 3, 1]]), jnp.array([[0, 0, 0, 1]])
    seen = visible_snapshots(snapshots, segment, of_token, None)
    wanted = [[0, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 1]]
    np.testing.assert_array_equal(seen[0], np.array(wanted, bool))
    seen = visible_snapshots(snapshots, segment, of_token, 1)
    wanted = [[0, 0, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
    np.testing.assert_array_equal(seen[0], np.array(wanted, bool))


@pytest.mark.parametrize("top_k", [None, 0, 1, 2])
def test_weights_are_a_softmax_over_the_chosen(x64, top_k):
    rng = np.random.default_rng(0)
    query, mean, cached = (rng.standard_normal((1, n, 4)) for n in (3, 3, 3))
    seen = np.array([[[0, 0, 0], [1, 0, 1], [1, 1, 1]]], bool)
    current, weight = weigh(*map(jnp.asarray, (query, mean, cached, seen)), top_k)
    for t in range(3):
        score = cached[0] @ query[0, t]
        chosen = [i for i in np.argsort(-score) if seen[0, t, i]][:top_k]
        total = np.exp(query[0, t] @ mean[0, t]) + np.sum(np.exp(score[chosen]))
        wanted = np.zeros(3)
        wanted[chosen] = np.exp(score[chosen]) / total
        np.testing.assert_allclose(weight[0, t], wanted, rtol=1e-12)
        np.testing.assert_allclose(current[0, t] + np.sum(wanted), 1, rtol=1e-12)


def test_a_new_document_clears_the_ring():
    """The row's last document has one segment; the other row keeps its ring."""
    held = jnp.arange(1.0, 7.0).reshape(2, 3, 1)
    cache = Cache(held, held)
    made = Snapshots(
        Cache(*[jnp.full((2, 1, 1), 9.0)] * 2),
        jnp.array([[0], [3]]),
        jnp.array([[1], [0]]),
    )
    index = jnp.array([[0, 1, 2], [0, 1, 2]])
    before = Snapshots(cache, index, jnp.zeros((2, 3), jnp.int32))
    every = Snapshots(
        Cache(*[jnp.concatenate([held, jnp.full((2, 1, 1), 9.0)], axis=1)] * 2),
        jnp.concatenate([before.segment, made.segment], axis=1),
        jnp.concatenate([before.document, made.document], axis=1),
    )
    document = jnp.array([[0, 1, 1], [0, 0, 0]])
    after = update_cache(every, cache, jnp.array([1, 4]), document, Layout())
    np.testing.assert_array_equal(after.mean[:, :, 0], [[9, 0, 0], [9, 5, 6]])
