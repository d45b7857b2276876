"""Attention to the best keys against masks over all logits."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.top_k_attention import top_k_attention
from memzoo.models.ops.visibility import Places

BATCH, TIME, SOURCE, HEADS, SIZE, VALUE = 2, 7, 9, 2, 3, 4
WINDOW = 5


def _case():
    rng = np.random.default_rng(0)
    shapes = (TIME, HEADS, SIZE), (SOURCE, HEADS, SIZE), (SOURCE, HEADS, VALUE)
    floats = [jnp.asarray(rng.standard_normal((BATCH, *shape))) for shape in shapes]
    places = Places(
        jnp.array([[0] * TIME, [0] * 3 + [1] * 4]),
        jnp.broadcast_to(jnp.arange(TIME) - 1, (BATCH, TIME)),
        jnp.array([[0] * SOURCE, [0, 0, -1, 1, 1, 1, 0, 1, 1]]),
        jnp.broadcast_to(jnp.arange(SOURCE), (BATCH, SOURCE)),
    )
    return floats, places


def _chosen(q, k, places, top_k):
    """Return the mask of the keys that each query reads, by the definition."""
    gap = places.query_position[:, :, None] - places.key_position[:, None, :]
    same = places.query_segment[:, :, None] == places.key_segment[:, None, :]
    seen = np.asarray(same & (gap >= 0) & (gap < WINDOW))[:, None]
    logits = np.where(seen, np.einsum("bthk,bshk->bhts", q, k), -np.inf)
    return seen & (np.argsort(np.argsort(-logits, axis=-1)) < top_k)


@pytest.mark.parametrize("top_k", [2, 99])
def test_blocks_equal_masks_over_all_logits(x64, top_k):
    """With 99, every key is read: softmax attention over the whole window."""
    (q, k, v), places = _case()
    chosen = _chosen(q, k, places, top_k)
    assert not np.any(chosen[:, :, 0]) and np.max(np.sum(chosen, -1)) == min(top_k, 5)
    weight = np.random.default_rng(1).standard_normal((BATCH, TIME, HEADS, VALUE))

    def gather(q, k, v):
        return top_k_attention(
            q, k, v, places, top_k=top_k, window=WINDOW, block_size=3
        )

    def dense(q, k, v):
        logits = jnp.einsum("bthk,bshk->bhts", q, k)
        weight = jax.nn.softmax(jnp.where(chosen, logits, -1e30), axis=-1) * chosen
        return jnp.einsum("bhts,bshv->bthv", weight, v)

    def loss(form, *floats):
        o = form(*floats)
        return jnp.sum(weight * o), o

    ours, wanted = (
        jax.jit(jax.value_and_grad(partial(loss, form), (0, 1, 2), has_aux=True))(
            q, k, v
        )
        for form in (gather, dense)
    )
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_memory_does_not_grow_with_queries_times_keys(largest_array):
    """Forward and backward hold the logits of one block of queries."""
    time, block = 4096, 16
    zero = jnp.zeros((1, time), jnp.int32)

    def loss(q, k, v):
        places = Places(zero, zero, zero, zero)
        o = top_k_attention(q, k, v, places, top_k=4, block_size=block)
        return jnp.sum(o**2)

    array = jax.ShapeDtypeStruct((1, time, 1, 8), jnp.float32)
    program = jax.make_jaxpr(jax.grad(loss, (0, 1, 2)))(array, array, array)
    assert largest_array(program.jaxpr) <= 2 * block * time


@pytest.mark.parametrize("option", [{"top_k": 0}, {"top_k": 1, "block_size": 0}])
def test_senseless_sizes_are_refused(option):
    (q, k, v), places = _case()
    with pytest.raises(ValueError, match="is 0; give 1 or more"):
        top_k_attention(q, k, v, places, **option)
