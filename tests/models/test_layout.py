"""Positions, documents and prefixes of a layout."""

import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.layout import Layout

STARTS = np.array(
    [[1, 0, 1, 1, 0, 0, 1], [0, 0, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 1, 0]], bool
)


@pytest.mark.parametrize("lengths", [None, (7, 3, 0), (1, 0, 6)])
@pytest.mark.parametrize("resets", [False, True])
def test_positions_and_segments_count_from_document_starts(lengths, resets):
    layout = Layout(
        jnp.asarray(STARTS) if resets else None,
        None if lengths is None else jnp.array(lengths),
    )
    place, after = layout.positions(jnp.array([0, 4, 9]), 7)
    segment = layout.segments(7)
    for row, position in enumerate((0, 4, 9)):
        document, next_position = 0, position
        for t in range(7):
            if resets and STARTS[row, t]:
                position, document = 0, document + 1
            assert place[row, t] == position
            if segment is not None:
                assert segment[row, t] == document
            position += 1
            if lengths is None or t < lengths[row]:
                next_position = position
        assert after[row] == next_position
    assert (segment is None) == (not resets)
    assert place.dtype == after.dtype == jnp.int32


def test_positions_of_an_empty_call_are_those_carried():
    place, after = Layout().positions(jnp.array([3, 4]), 0)
    assert place.shape == (2, 0)
    np.testing.assert_array_equal(after, [3, 4])


def test_a_prefix_is_what_a_document_begins_with_marked_without_a_gap():
    reset = jnp.array([[0, 0, 0, 1, 0, 0, 0]] * 4, bool)
    prefix = [[1, 1, 0, 1, 0, 1, 1], [1, 0, 1, 0, 1, 1, 1], [1] * 7, [0] * 7]
    position = jnp.array([0, 0, 4, 0])
    layout = Layout(reset=reset, prefix=jnp.array(prefix, bool))
    np.testing.assert_array_equal(
        layout.prefix_tokens(position, 7),
        # The third row's first document began in an earlier call.
        [[1, 1, 0, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 1], [0] * 7],
    )
    whole = layout._replace(reset=None).prefix_tokens(position, 7)
    np.testing.assert_array_equal(whole.sum(axis=1), [2, 1, 0, 0])
    assert Layout(reset=reset).prefix_tokens(position, 7) is None
