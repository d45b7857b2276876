"""Pieces of rows against a loop over tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.places import places
from memzoo.models.ops.segment_pieces import cut_pieces, from_pieces, to_pieces


@pytest.mark.parametrize("position", [0, 3, 7])
def test_pieces_hold_every_token_once_and_end_where_segments_end(position):
    time, size = 22, 4
    reset = np.zeros((2, time), bool)
    reset[0, [1, 2, 9, 16]] = True
    length = np.array([22, 13], np.int32)
    place, _ = places(
        jnp.full(2, position),
        time,
        reset=jnp.asarray(reset),
        length=jnp.asarray(length),
    )
    valid = jnp.arange(time)[None, :] < length[:, None]
    pieces = jax.jit(cut_pieces, static_argnums=2)(place, valid, size)
    token, real = np.asarray(pieces.token), np.asarray(pieces.real)
    for row in range(2):
        assert list(token[row][real[row]]) == list(range(length[row]))
        held = [list(t[r]) for t, r in zip(token[row], real[row], strict=True)]
        ends = {piece[-1] for piece in held if piece}
        found = {
            piece[-1]
            for piece, end in zip(held, pieces.ends[row], strict=True)
            if end and piece
        }
        wanted = set()
        for t in range(length[row]):
            if (place[row, t] + 1) % size == 0:
                last = t + 1 == length[row] or place[row, t + 1] > 0
                wanted |= {t} if last or t in ends else set()
        assert found == wanted <= ends
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, time, 3)))
    back = from_pieces(to_pieces(x, pieces), pieces)
    np.testing.assert_array_equal(back[0], x[0])
    np.testing.assert_array_equal(back[1, :13], x[1, :13])
