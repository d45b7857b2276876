"""Attention inside chunks against masks over all logits, and against full attention."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.chunk_attention import Chunks, chunk_attention
from memzoo.models.ops.visibility import Places

BATCH, TIME, HEADS, SIZE, CHUNKS, EACH, FEATURES = 2, 11, 2, 3, 5, 4, 6


def _case(features=FEATURES):
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.standard_normal((BATCH, *shape))

    chunks = Chunks(
        draw(CHUNKS, EACH, HEADS, SIZE),
        draw(CHUNKS, EACH, HEADS, SIZE + 1),
        draw(CHUNKS, features),
    )
    number = np.broadcast_to(np.arange(CHUNKS), (BATCH, CHUNKS))
    places: Any = (
        np.array([[0] * TIME, [0] * 4 + [1] * (TIME - 4)]),
        np.broadcast_to(np.arange(TIME) // 2 - 1, (BATCH, TIME)),
        np.array([[0] * CHUNKS, [0, 0, -1, 1, 1]]),
        number,
    )
    tokens = draw(TIME, HEADS, SIZE), draw(TIME, features)
    return jax.tree.map(jnp.asarray, (*tokens, chunks, Places(*places)))


def _visible(places, window):
    """Return the mask of visible chunks, by the definition."""
    gap = places.query_position[:, :, None] - places.key_position[:, None, :]
    same = places.query_segment[:, :, None] == places.key_segment[:, None, :]
    return same & (gap >= 0) & (gap < window)


def _dense(chosen, q, r, chunks):
    """Weigh every chunk of every query; chunks that are not chosen have weight 0."""
    relevance = jnp.einsum("btf,bnf->btn", r, chunks.summary) / np.sqrt(r.shape[-1])
    weight = jax.nn.softmax(jnp.where(chosen, relevance, -1e30), axis=-1) * chosen
    logits = jnp.einsum("bthk,bnchk->btnhc", q, chunks.key) / np.sqrt(SIZE)
    inside = jax.nn.softmax(logits, axis=-1)
    return jnp.einsum("btnhc,btn,bnchv->bthv", inside, weight, chunks.value)


@pytest.mark.parametrize("top_k", [2, 9])
def test_blocks_equal_masks_over_all_logits(x64, top_k):
    q, r, chunks, places = _case()
    seen = _visible(places, 3)
    relevance = np.einsum("btf,bnf->btn", r, chunks.summary)
    rank = np.argsort(np.argsort(-np.where(seen, relevance, -np.inf), axis=-1))
    chosen = seen & (rank < top_k)
    assert not np.any(chosen[:, 0]) and np.max(np.sum(seen, axis=-1)) == 3
    weight = np.random.default_rng(1).standard_normal((BATCH, TIME, HEADS, SIZE + 1))

    def gather(q, r, chunks):
        return chunk_attention(
            q, r, chunks, places, top_k=top_k, window=3, block_size=4
        )

    def loss(form, *floats):
        o = form(*floats)
        return jnp.sum(weight * o), o

    ours, wanted = (
        jax.jit(jax.value_and_grad(partial(loss, form), (0, 1, 2), has_aux=True))(
            q, r, chunks
        )
        for form in (gather, partial(_dense, chosen))
    )
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_all_chunks_by_their_share_are_softmax_attention(x64):
    """With w_tn the share of chunk n in one softmax over all tokens of all chunks."""
    q, _, chunks, places = _case(features=TIME)
    q, chunks = q[:, :, :1], Chunks(*(a[:, :, :, :1] for a in chunks[:2]), chunks[2])
    logits = np.einsum("bthk,bnchk->btnc", q, chunks.key) / np.sqrt(SIZE)
    share = np.log(np.sum(np.exp(logits), axis=-1))
    # The relevance query of token t picks entry t of every summary.
    relevance_query = np.broadcast_to(np.sqrt(TIME) * np.eye(TIME), (BATCH, TIME, TIME))
    chunks = chunks._replace(summary=jnp.asarray(share.swapaxes(1, 2)))
    read = jax.jit(partial(chunk_attention, top_k=CHUNKS, window=9))
    o = read(q, jnp.asarray(relevance_query), chunks, places)
    seen = _visible(places, 9)
    weight = np.exp(logits) * seen[..., None]
    total = weight.sum((2, 3), keepdims=True)
    weight = weight / np.where(total == 0, 1, total)
    wanted = np.einsum("btnc,bnchv->bthv", weight, chunks.value)
    np.testing.assert_allclose(o, wanted, rtol=1e-12, atol=1e-12)


def test_memory_does_not_grow_with_queries_times_chosen_tokens(largest_array):
    """Forward and backward hold the keys and values of one block of queries."""
    time, each, top_k, block = 4096, 16, 4, 64
    number = time // each
    shapes = [(1, time, 1, 8), (1, time, 8), (1, number, each, 1, 8)]
    shapes += [shapes[-1], (1, number, 8)]
    zero = jnp.zeros((1, time), jnp.int32)
    places = Places(zero, zero, zero[:, :number], zero[:, :number])

    def loss(q, r, key, value, summary):
        chunks = Chunks(key, value, summary)
        o = chunk_attention(q, r, chunks, places, top_k=top_k, block_size=block)
        return jnp.sum(o**2)

    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    program = jax.make_jaxpr(jax.grad(loss, (0, 1, 2, 3, 4)))(*arrays)
    gathered = block * top_k * each * 8
    assert largest_array(program.jaxpr) <= 2 * max(gathered, time * 8)


@pytest.mark.parametrize("option", [{"top_k": 0}, {"top_k": 1, "block_size": 0}])
def test_senseless_sizes_are_refused(option):
    with pytest.raises(ValueError, match="is 0; give 1 or more"):
        chunk_attention(*_case(), **option)
