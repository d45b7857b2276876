"""Positions against a count by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.places import places

POSITION = np.array([0, 7, 3], np.int32)
RESET = np.array([[0, 0, 1, 0, 0], [1, 1, 0, 0, 1], [0, 0, 0, 0, 0]], bool)
LENGTH = np.array([5, 3, 0], np.int32)


@pytest.mark.parametrize("time", [0, 1, 5])
@pytest.mark.parametrize("with_reset", [False, True])
@pytest.mark.parametrize("with_length", [False, True])
def test_places_are_counted_from_the_start_of_each_document(
    time, with_reset, with_length
):
    reset = RESET[:, :time] if with_reset else None
    length = np.minimum(LENGTH, time) if with_length else None
    run = jax.jit(places, static_argnums=1)
    place, after = run(*map(jnp.asarray, (POSITION,)), time, reset=reset, length=length)
    for row, next_place in enumerate(POSITION):
        real = time if length is None else length[row]
        for t in range(real):
            if reset is not None and reset[row, t]:
                next_place = 0
            assert place[row, t] == next_place
            next_place += 1
        assert after[row] == next_place
