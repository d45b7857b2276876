"""The ring of chunks against a list of the document's tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.chunk_ring import (
    completed_chunks,
    extend_ring,
    extend_ring_token,
    init_ring,
    ring_chunks,
)
from memzoo.models.interface import Layout

SIZES = {
    "chunk_size": 3,
    "most_chunks": 3,
    "heads": 1,
    "head_size": 1,
    "summary_size": 1,
}
ROWS = 2


def _tokens(x):
    x = x[..., None, None]
    return x, -x


@jax.jit
def _call(ring, x, before, after, layout=Layout()):  # noqa: B008
    key, value = _tokens(x)
    feature = 10 * key[:, :, 0]
    found = completed_chunks(ring, key, value, feature, before, layout, 3)
    return extend_ring(ring, key, value, feature, after, layout), found


@jax.jit
def _token(ring, x, position):
    key, value = _tokens(x)
    return extend_ring_token(ring, key, value, 10 * key[:, 0], position)


def _listed(found):
    """Return per row {(document, number): (tokens, summary)}."""
    return [
        {
            (int(s), int(n)): (key[i].ravel().tolist(), float(total[i, 0]))
            for i, (s, n) in enumerate(zip(segment, number, strict=True))
            if s >= 0
        }
        for key, total, segment, number in zip(
            *map(np.asarray, (found.chunks.key, found.chunks.summary)),
            *map(np.asarray, found[1:]),
            strict=True,
        )
    ]


def test_calls_and_tokens_fill_the_ring_with_complete_chunks():
    position = np.zeros((ROWS,), np.int32)
    ring = init_ring(ROWS, 100, **SIZES)
    assert ring.chunk_size == 3
    x = np.stack([np.arange(13.0), 100 + np.arange(13)])
    ring, found = _call(ring, x[:, :4], position, position + 4)
    # The second chunk begins in one call and ends in the next.
    assert _listed(found)[0] == {(0, 0): ([0, 1, 2], 10.0)}
    ring, found = _call(ring, x[:, 4:11], position + 4, position + 11)
    assert _listed(found)[1] == {
        (0, 1): ([103, 104, 105], 1040.0),
        (0, 2): ([106, 107, 108], 1070.0),
    }
    for t in (11, 12):
        ring = _token(ring, x[:, t], position + t)
    # Chunk 4 has begun in the place of chunk 1.
    held = jax.jit(ring_chunks)(ring, position + 13)
    assert _listed(held)[0] == {(0, 2): ([6, 7, 8], 70.0), (0, 3): ([9, 10, 11], 100.0)}
    np.testing.assert_array_equal(held.chunks.value, -held.chunks.key)
    np.testing.assert_array_equal(ring.summary_sum[:, 1, 0], [120.0, 1120.0])


def test_documents_and_padding():
    position = np.full((ROWS,), 2, np.int32)
    ring, _ = _call(
        init_ring(ROWS, 100, **SIZES), np.ones((ROWS, 2)), position - 2, position
    )
    reset = np.zeros((ROWS, 9), bool)
    reset[0, 2] = True
    layout = Layout(jnp.asarray(reset), jnp.array([9, 3], jnp.int32))
    x = np.broadcast_to(np.arange(9.0), (ROWS, 9))
    ring, found = _call(ring, x, position, np.array([7, 5], np.int32), layout)
    first = {(0, 0): ([1, 1, 0], 20 / 3)}
    second = {(1, 0): ([2, 3, 4], 30.0), (1, 1): ([5, 6, 7], 60.0)}
    for row, wanted in zip(_listed(found), (first | second, first), strict=True):
        assert row.keys() == wanted.keys()
        for place, (tokens, summary) in wanted.items():
            assert row[place][0] == tokens
            assert row[place][1] == pytest.approx(summary)
    np.testing.assert_allclose(ring.summary_sum[:, :, 0], [[90, 180, 80], [20, 30, 0]])


def test_an_empty_ring_and_a_negative_length():
    ring = init_ring(ROWS, 0, **SIZES)
    assert ring.summary_sum.shape == (ROWS, 0, 1)
    with pytest.raises(ValueError, match="max_length is -1; give 0"):
        init_ring(ROWS, -1, **SIZES)
