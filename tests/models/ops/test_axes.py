"""Named axes of an operation, checked before anything is computed."""

import jax.numpy as jnp
import pytest

from memzoo.models.ops.axes import check_axes
from memzoo.models.ops.delta_rule import DeltaTokens
from memzoo.models.ops.recurrence import select


def _tokens(batch=2, time=5, heads=3, keys=4, values=6):
    gate = jnp.ones((batch, time, heads))
    key = jnp.ones((batch, time, heads, keys))
    return DeltaTokens(key, key, jnp.ones((batch, time, heads, values)), gate)


def _check(tokens, memory, several=False):
    check_axes(DeltaTokens, tokens, "b h k v", memory, several)


def test_axes_that_agree_pass():
    _check(_tokens(), jnp.ones((2, 3, 4, 6)))
    _check(_tokens(), jnp.ones((2, 7, 3, 4, 6)), several=True)
    _check(_tokens()._replace(log_decay=jnp.ones((2, 5, 3))), jnp.ones((2, 3, 4, 6)))


def test_heads_before_time_are_refused_by_name():
    tokens = _tokens()
    swapped = [jnp.swapaxes(x, 1, 2) for x in tokens[:3]]
    said = (
        r"axis t is 5 in write_strength \(2, 5, 3\) and 3 in query; write_strength has "
        "the axes `b t h`, so check their order"
    )
    with pytest.raises(ValueError, match=said):
        _check(DeltaTokens(*swapped, tokens.write_strength), jnp.ones((2, 3, 4, 6)))


@pytest.mark.parametrize(
    ("change", "memory", "said"),
    [
        ({"key": jnp.ones((2, 5, 3))}, (2, 3, 4, 6), "key has shape .* axes `b t h k`"),
        ({}, (2, 3, 6, 4), r"axis k is 6 in memory \(2, 3, 6, 4\) and 4 in query"),
        ({}, (3, 4, 6), "memory has shape .*; give it the axes `b h k v`"),
        ({"log_decay": jnp.ones((2, 5, 1))}, (2, 3, 4, 6), "axis h is 1 in log_decay"),
    ],
)
def test_the_array_that_does_not_fit_is_named(change, memory, said):
    with pytest.raises(ValueError, match=said):
        _check(_tokens()._replace(**change), jnp.ones(memory))


def test_select_chooses_along_the_first_axes():
    chosen, other = {"a": jnp.ones((2, 3))}, {"a": jnp.zeros((2, 3))}
    picked = select(jnp.array([True, False]), chosen, other)["a"]
    assert picked.tolist() == [[1, 1, 1], [0, 0, 0]]
    both = jnp.array([[True, False, True], [False, True, False]])
    picked = select(both, chosen, other)["a"]
    assert picked.tolist() == [[1, 0, 1], [0, 1, 0]]
