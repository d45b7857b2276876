"""Slots against a stable sort in plain Python, and the gradients of `move`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.routing import (
    assign_slots,
    memories_to_slots,
    move,
    num_chunks,
    route,
    selected,
    slot_resets,
    slots_to_choices,
    tokens_to_slots,
    weight_by_memory,
)

BATCH, TIME, MEMORIES, TOP = 2, 13, 4, 2


def _chosen(kind, time=TIME, memories=MEMORIES, top=TOP):
    """Return distinct memories per token: at random, all equal, or in turn."""
    rng = np.random.default_rng(0)
    if kind == "same":
        order = np.broadcast_to(np.arange(memories)[::-1], (BATCH, time, memories))
    elif kind == "turns":
        turn = np.arange(time)[:, None] + np.arange(memories)
        order = np.broadcast_to(turn % memories, (BATCH, time, memories))
    else:
        order = rng.permuted(
            np.broadcast_to(np.arange(memories), (BATCH, time, memories)), axis=2
        )
    return jnp.asarray(order[:, :, :top], jnp.int32)


def _queues(chosen, valid):
    """Return the tokens of every memory of every row, in order."""
    return [
        [
            [t for t in range(chosen.shape[1]) if valid[b, t] and m in chosen[b, t]]
            for m in range(MEMORIES)
        ]
        for b in range(BATCH)
    ]


def _slots(chosen, valid, size):
    @jax.jit
    def run(chosen, valid):
        there = selected(chosen, MEMORIES, valid)
        return assign_slots(chosen, there, size), there

    found = run(chosen, None if np.all(valid) else np.asarray(valid))
    return jax.tree.map(np.asarray, found)


LENGTHS = np.arange(TIME)[None] < np.array([[TIME - 4], [TIME]])


@pytest.mark.parametrize("size", [1, 3, 8, None])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kind", ["random", "same", "turns"])
def test_slots_are_a_stable_sort_by_memory(kind, padded, size):
    chosen = _chosen(kind)
    valid = LENGTHS if padded else np.ones((BATCH, TIME), bool)
    slots, there = _slots(chosen, valid, size)
    each = TIME if size is None else size
    for b, queues in enumerate(_queues(np.asarray(chosen), valid)):
        wanted = np.full(slots.pair.shape[1], -1)
        chunk = 0
        for m, queue in enumerate(queues):
            if size is None:
                chunk = m
            for rank, t in enumerate(queue):
                slot = chunk * each + rank
                wanted[slot] = t * TOP + list(np.asarray(chosen[b, t])).index(m)
                assert slots.place[b, t, m] == slot
                assert slots.which[b, slot // each] == m
            chunk += -(-len(queue) // each)
        np.testing.assert_array_equal(slots.pair[b], wanted)
        assert np.sum(np.asarray(slots.place[b]) >= 0) == np.sum(there[b])
        assert np.all(np.diff(slots.which[b]) >= 0)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_the_number_of_chunks_suffices_and_is_not_too_large(size):
    """The worst routing needs all chunks: every memory has a chunk with one token."""
    top = 1
    counts = [1, 1, 1, TIME - 3]
    chosen = jnp.repeat(jnp.arange(4), jnp.array(counts), total_repeat_length=TIME)
    chosen = jnp.broadcast_to(chosen[None, :, None], (BATCH, TIME, top))
    slots, _ = _slots(chosen, np.ones((BATCH, TIME), bool), size)
    used = sum(-(-count // size) for count in counts)
    limit = num_chunks(TIME, top, MEMORIES, size)
    assert slots.which.shape[1] == limit >= used
    for spread in range(1, 200):
        parts = np.random.default_rng(spread).multinomial(TIME, np.ones(4) / 4)
        assert np.sum(-(-parts // size)) <= limit


def test_without_tokens_there_are_no_slots():
    chosen = jnp.zeros((BATCH, 0, TOP), jnp.int32)
    slots, _ = _slots(chosen, np.ones((BATCH, 0), bool), 1)
    assert slots.pair.shape == (BATCH, 0)
    starts, unreached = slot_resets(slots, jnp.zeros((BATCH, 0), bool), TOP)
    assert starts.shape == (BATCH, 0)
    assert not np.any(unreached)


@pytest.mark.parametrize("size", [1, 3, 8, None])
@pytest.mark.parametrize("kind", ["random", "same", "turns"])
def test_document_starts_as_each_memory_sees_them(kind, size):
    chosen = _chosen(kind)
    reset = np.zeros((BATCH, TIME), bool)
    reset[0, [0, 4, 5]] = True
    reset[1, [2, TIME - 1]] = True
    slots, _ = _slots(chosen, np.ones((BATCH, TIME), bool), size)
    resets = jax.jit(lambda slots, reset: slot_resets(slots, reset, TOP))
    starts, unreached = jax.tree.map(np.asarray, resets(slots, reset))
    wanted = np.zeros(starts.shape, bool)
    for b, queues in enumerate(_queues(np.asarray(chosen), np.ones((BATCH, TIME)))):
        for m, queue in enumerate(queues):
            for before, t in zip([-1, *queue], queue, strict=False):
                slot = int(slots.place[b, t, m])
                wanted[b, slot] = np.any(reset[b, before + 1 : t + 1])
            last = queue[-1] if queue else -1
            assert bool(unreached[b, m]) == np.any(reset[b, last + 1 :])
    np.testing.assert_array_equal(starts, wanted)


def _plain_move(x, source):
    """Compute the same by a gather with autodiff."""
    moved = jnp.take_along_axis(x, jnp.maximum(source, 0)[..., None], axis=1)
    return jnp.where((source >= 0)[..., None], moved, 0)


def test_the_gradient_of_a_move_is_that_of_its_gather(x64):
    chosen = _chosen("random")
    slots, _ = _slots(chosen, LENGTHS, 3)
    token = jnp.where(slots.pair < 0, -1, slots.pair // TOP)
    back = jnp.take_along_axis(slots.place, chosen, axis=2)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((BATCH, TIME, 3)))
    weight = jnp.asarray(rng.standard_normal((*token.shape, 3)))
    found, wanted = (
        jax.jit(jax.value_and_grad(lambda x, run=run: jnp.sum(run(x) * weight)))(x)
        for run in (lambda x: move(x, token, back), lambda x: _plain_move(x, token))
    )
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-12)
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-12, atol=1e-12)


def test_what_is_moved_to_slots_comes_back(x64):
    chosen = _chosen("random")
    slots, there = _slots(chosen, LENGTHS, 3)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((BATCH, TIME, 2, 3)))

    @jax.jit
    def there_and_back(x):
        return slots_to_choices(tokens_to_slots(x, slots, chosen), slots, chosen)

    back, x = np.asarray(there_and_back(x)), np.asarray(x)
    for b, t, choice in np.ndindex(BATCH, TIME, TOP):
        wanted = x[b, t] if LENGTHS[b, t] else 0 * x[b, t]
        np.testing.assert_array_equal(back[b, t, choice], wanted)
    own = jnp.asarray(rng.standard_normal((BATCH, MEMORIES, TIME, 2)))

    @jax.jit
    def own_there_and_back(own):
        return slots_to_choices(memories_to_slots(own, slots, TOP), slots, chosen)

    back = np.asarray(own_there_and_back(own))
    for b, t, choice in np.ndindex(BATCH, TIME, TOP):
        wanted = np.asarray(own)[b, chosen[b, t, choice], t] * LENGTHS[b, t]
        np.testing.assert_array_equal(back[b, t, choice], wanted)
    weight = rng.standard_normal((BATCH, TIME, TOP, 2))

    def moved(own):
        return jnp.sum(own_there_and_back(own) * weight)

    gradient = np.asarray(jax.jit(jax.grad(moved))(own))
    for b, t, m in np.ndindex(BATCH, TIME, MEMORIES):
        wanted = np.zeros(2)
        if there[b, t, m]:
            wanted = weight[b, t, list(np.asarray(chosen[b, t])).index(m)]
        np.testing.assert_array_equal(gradient[b, m, t], wanted)


def test_nothing_that_is_not_finite_reaches_a_slot():
    chosen = _chosen("random")
    slots, _ = _slots(chosen, LENGTHS, 3)
    x = jnp.where(jnp.asarray(LENGTHS)[:, :, None], 1.0, jnp.nan)
    moved = jax.jit(lambda x: tokens_to_slots(x, slots, chosen))(x)
    np.testing.assert_array_equal(moved[:, :, 0], np.asarray(slots.pair) >= 0)


def test_routing_takes_the_most_probable_and_of_equals_the_first():
    logits = jnp.log(jnp.array([[[0.1, 0.4, 0.2, 0.3], [0.25, 0.25, 0.25, 0.25]]]))
    routing = route(logits, 2)
    np.testing.assert_array_equal(routing.chosen, [[[1, 3], [0, 1]]])
    np.testing.assert_allclose(
        routing.weight, [[[4 / 7, 3 / 7], [0.5, 0.5]]], rtol=1e-6
    )
    np.testing.assert_allclose(routing.probability, np.exp(logits), rtol=1e-6)
    by_memory = weight_by_memory(routing, 4)
    wanted = [[[0, 4 / 7, 0, 3 / 7], [0.5, 0.5, 0, 0]]]
    np.testing.assert_allclose(by_memory, wanted, rtol=1e-6)
    there = selected(routing.chosen, 4, jnp.array([[True, False]]))
    np.testing.assert_array_equal(there, [[[0, 1, 0, 1], [0, 0, 0, 0]]])


def test_weights_have_the_gradient_of_the_formula(x64):
    logits = jnp.asarray(np.random.default_rng(0).standard_normal((1, 1, 4)))

    def ratio(logits):
        top = jnp.sort(jax.nn.softmax(logits[0, 0]))[-2:]
        return top[1] / (top[0] + top[1])

    found = jax.grad(lambda x: route(x, 2).weight[0, 0, 0])(logits)
    np.testing.assert_allclose(found, jax.grad(ratio)(logits), rtol=1e-9, atol=1e-15)


def test_memories_are_chosen_where_probabilities_have_vanished():
    logits = jnp.array([[[200.0, 0.0, -200.0, 90.0]]])
    routing = route(logits, 2)
    assert routing.probability[0, 0, 3] == routing.probability[0, 0, 1] == 0.0
    np.testing.assert_array_equal(routing.chosen, [[[0, 3]]])
    np.testing.assert_array_equal(routing.weight, [[[1.0, 0.0]]])


@pytest.mark.parametrize("size", [3, None])
def test_nothing_is_moved_out_of_nothing(size):
    chosen = jnp.zeros((BATCH, 0, TOP), jnp.int32)
    slots, _ = _slots(chosen, np.ones((BATCH, 0), bool), size)
    slots = jax.tree.map(jnp.asarray, slots)
    moved = tokens_to_slots(jnp.ones((BATCH, 0, 5)), slots, chosen)
    assert moved.shape == (*slots.pair.shape, 5) and not np.any(moved)
    assert slots_to_choices(moved, slots, chosen).shape == (BATCH, 0, TOP, 5)
