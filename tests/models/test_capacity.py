"""Capacities: the smallest of several, messages, and whether values are readable."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.capacity import is_known, no_room, smallest_capacity


@pytest.mark.parametrize(
    "capacities, smallest", [((), None), ((None,), None), ((3, None, 2), 2), ((0,), 0)]
)
def test_several_parts_have_room_for_what_each_has(capacities, smallest):
    assert smallest_capacity(capacities) == smallest


def test_values_are_known_outside_of_a_trace():
    assert is_known(None) and is_known(np.zeros(2)) and is_known(jnp.zeros(2))
    found = []
    jax.eval_shape(lambda x: found.append(is_known(x)), jnp.zeros(2))
    assert found == [False]


@pytest.mark.parametrize(
    "capacity, message",
    [
        (12, "attention: the document would reach 16 tokens, but its state was alloca"),
        (0, "attention: the state was made with max_length 0, for one call, and can"),
    ],
)
def test_the_error_names_what_was_allocated_and_the_remedy(capacity, message):
    error = str(no_room("attention", capacity, 16))
    assert error.startswith(message)
    assert "; give max_length=16 or more to init_state, or to the call" in error
