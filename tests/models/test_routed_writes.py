"""Every form against regrouping tokens by memory in plain Python, in float64."""

import functools
import itertools
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.gated_delta_net import GatedDeltaNetConfig
from memzoo.models.mamba2 import Mamba2Config
from memzoo.models.memory_inputs import MemoryInputs
from memzoo.models.ops.delta_rule import DeltaTokens
from memzoo.models.ops.routing import Routing, route, selected
from memzoo.models.ops.scalar_decay import ScalarDecayTokens
from memzoo.models.routed_writes import (
    Copies,
    with_skip,
    write_dense,
    write_grouped,
    write_token,
)

BATCH, MEMORIES, TOP, HEADS, KEY, VALUE = 2, 4, 2, 2, 3, 6

CONFIGS = {
    "delta": GatedDeltaNetConfig(num_heads=2, head_size=3, chunk_size=4),
    "scalar": Mamba2Config(head_size=6, state_size=3, expand=1, chunk_size=4),
}
LAYERS = {
    name: config.build(12, nnx.Rngs(0), layer_index=0, depth=1)
    for name, config in CONFIGS.items()
}
FORMS = {
    "packed": partial(write_grouped, chunk_size=4),
    "packed in fives": partial(write_grouped, chunk_size=5),
    "padded": partial(write_grouped, chunk_size=None),
    "dense": write_dense,
}


def _inputs(rule, time, own):
    """Return float64 inputs, per memory if `own`; keys have length 1."""
    rng = np.random.default_rng(0)
    copies = (MEMORIES,) if own else ()

    def draw(*sizes, each=True):
        lead = copies if each else ()
        return jnp.asarray(rng.standard_normal((BATCH, *lead, time, HEADS, *sizes)))

    key = draw(KEY)
    key = key / jnp.linalg.norm(key, axis=-1, keepdims=True)
    query, value = draw(KEY, each=False), draw(VALUE)
    if rule == "delta":
        strength, log_decay = jax.nn.sigmoid(draw()), -jnp.abs(draw())
        return MemoryInputs(DeltaTokens(query, key, value, strength, log_decay))
    tokens = ScalarDecayTokens(query, key, value, -jnp.abs(draw()))
    return MemoryInputs(tokens, skip=draw(VALUE))


def _routing(kind, time):
    """Route by random logits, to the last two memories only, or by equal logits."""
    logits = np.random.default_rng(1).standard_normal((BATCH, time, MEMORIES))
    if kind == "all to two":
        logits = logits * 0.1 + np.array([-50, -50, 9, 10])
    if kind == "ties":
        logits = np.zeros_like(logits)
    return route(jnp.asarray(logits), TOP)


def _reset(kind, time):
    if kind == "none":
        return None
    reset = np.zeros((BATCH, time), bool)
    reset[0, [0, time // 3, time // 3 + 1]] = True
    # The last document of the second row is a single token.
    reset[1, time - 1] = True
    return reset


def _queues(there, reset):
    """Return each memory's tokens in each row, which are real, and its resets.

    Also return whether a document starts after its last token.
    """
    time = there.shape[1]
    queue, real = np.zeros((2, BATCH, MEMORIES, time), int)
    starts = np.zeros((BATCH, MEMORIES, time), bool)
    ended = np.zeros((BATCH, MEMORIES), bool)
    for b, m in np.ndindex(BATCH, MEMORIES):
        mine = np.flatnonzero(there[b, :, m])
        queue[b, m, : len(mine)] = mine
        real[b, m, : len(mine)] = 1
        if reset is not None:
            before = -1
            for place, t in enumerate(mine):
                starts[b, m, place] = reset[b, before + 1 : t + 1].any()
                before = t
            ended[b, m] = reset[b, before + 1 :].any()
    return queue, real.astype(bool), starts, ended


def _regrouped(rule, inputs, memories, routing, there, reset):
    """Compute the same by the recurrence, over each memory's tokens alone."""
    queue, real, starts, ended = _queues(np.asarray(there), reset)
    b, m, _ = np.ogrid[:BATCH, :MEMORIES, :1]
    own = inputs.tokens.key.ndim == 5

    def regroup(a, own=own):
        taken = a[b, m, queue] if own else a[b, queue]
        mask = real.reshape(real.shape + (1,) * (taken.ndim - 3))
        return jnp.where(mask, taken, 0).reshape(BATCH * MEMORIES, *taken.shape[2:])

    mine = jax.tree.map(regroup, inputs.with_query(None))
    mine = mine.with_query(regroup(inputs.query, own=False))
    rows = memories.reshape(BATCH * MEMORIES, *memories.shape[2:])
    starts = None if reset is None else jnp.asarray(starts.reshape(len(rows), -1))
    read, after = LAYERS[rule].rule.recurrent(mine.tokens, rows, reset=starts)
    if mine.skip is not None:
        read = read + mine.skip
    chosen, weight = (a[b, queue] for a in (routing.chosen, routing.weight))
    share = jnp.sum(jnp.where(chosen == m[..., None], weight, 0), axis=-1) * real
    read = read.reshape(*queue.shape, HEADS, VALUE) * share[..., None, None]
    mixed = jnp.zeros((BATCH, queue.shape[2], HEADS, VALUE))
    after = jnp.where(ended[..., None, None, None], 0, after.reshape(memories.shape))
    return mixed.at[b, queue].add(read), after


class Case(NamedTuple):
    """A case on which forms are compared; one row has `cut` fewer real tokens."""

    rule: str
    time: int
    routing: str = "random"
    reset: str = "none"
    own: bool = True
    cut: int = 0


class Given(NamedTuple):
    """Return the arrays of a case."""

    inputs: MemoryInputs
    memories: jax.Array
    routing: Routing
    valid: np.ndarray
    there: jax.Array
    reset: np.ndarray | None

    @classmethod
    def of(cls, case):
        shape = (BATCH, MEMORIES, HEADS, KEY, VALUE)
        memories = jnp.asarray(np.random.default_rng(2).standard_normal(shape) / 2)
        routing = _routing(case.routing, case.time)
        index = np.arange(case.time)[None]
        valid = index < np.array([[case.time - case.cut], [case.time]])
        there = selected(routing.chosen, MEMORIES, jnp.asarray(valid))
        reset = _reset(case.reset, case.time)
        reset = None if reset is None else reset & valid
        inputs = _inputs(case.rule, case.time, case.own)
        return cls(inputs, memories, routing, valid, there, reset)


def _values_and_gradients(given, run):
    """Return the gradients of `run(inputs, memories, routing)`."""
    mask = given.valid[..., None, None]
    rng = np.random.default_rng(3)

    @jax.jit
    def pulled(inputs, memories, weight):
        (read, memories), pull = jax.vjp(
            lambda inputs, memories, weight: run(
                inputs, memories, given.routing._replace(weight=weight)
            ),
            inputs,
            memories,
            weight,
        )
        cotangents = (
            jnp.asarray(rng.standard_normal(read.shape) * mask),
            jnp.asarray(rng.standard_normal(memories.shape)),
        )
        return memories, read * mask, pull(cotangents)

    return pulled(given.inputs, given.memories, given.routing.weight)


@functools.cache
def _wanted(case):
    """Return the values by regrouping, computed once for all forms."""
    given = Given.of(case)
    return _values_and_gradients(
        given,
        lambda *args: _regrouped(case.rule, *args, given.there, given.reset),
    )


def _compare(form, case):
    given = Given.of(case)
    copies = Copies(LAYERS[case.rule], case.own)
    reset = None if given.reset is None else jnp.asarray(given.reset)
    found = _values_and_gradients(
        given, lambda *args: FORMS[form](copies, *args, given.there, reset)
    )
    leaves = jax.tree.leaves_with_path(found)
    for (path, a), b in zip(leaves, jax.tree.leaves(_wanted(case)), strict=True):
        assert np.all(np.isfinite(a))
        np.testing.assert_allclose(
            a, b, rtol=1e-9, atol=1e-10, err_msg=jax.tree_util.keystr(path)
        )
    return found[0], given


def grid(quick, *axes):
    """Return every combination; all but the quick ones are marked slow."""
    for case in itertools.product(*axes):
        yield pytest.param(*case, marks=() if case in quick else pytest.mark.slow)


SOME_FORMS = {
    *itertools.product(("packed", "padded", "dense"), ("delta",), ("inside",)),
    ("packed", "scalar", "none"),
}


@pytest.mark.parametrize(
    ("form", "rule", "reset"),
    list(grid(SOME_FORMS, ("packed", "padded", "dense"), CONFIGS, ("none", "inside"))),
)
def test_every_form_is_the_regrouped_one(x64, form, rule, reset):
    _compare(form, Case(rule, 15, reset=reset, cut=4))


@pytest.mark.parametrize("time", [1, pytest.param(63, marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", ["packed in fives", "dense"])
def test_at_other_lengths(x64, form, time):
    _compare(form, Case("delta", time))


SOME_ROUTINGS = {("packed", "ties"), ("padded", "ties"), ("dense", "all to two")}


@pytest.mark.parametrize(
    ("form", "routing"),
    list(grid(SOME_ROUTINGS, ("packed", "padded", "dense"), ("all to two", "ties"))),
)
def test_memories_that_nobody_chose_are_left_bit_for_bit(x64, form, routing):
    after, given = _compare(form, Case("delta", 15, routing=routing))
    unused = np.asarray(~np.any(given.there, axis=1))
    assert np.sum(unused) == 2 * BATCH
    np.testing.assert_array_equal(after[unused], given.memories[unused])


@pytest.mark.parametrize("form", ["packed", "dense"])
def test_inputs_that_all_memories_share(x64, form):
    _compare(form, Case("scalar", 15, reset="inside", own=False))


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("rule", CONFIGS)
def test_a_token_is_a_sequence_of_one(x64, rule, own):
    inputs = _inputs(rule, 1, own)
    rng = np.random.default_rng(2)
    memories = jnp.asarray(rng.standard_normal((BATCH, MEMORIES, HEADS, KEY, VALUE)))
    routing = _routing("random", 1)
    there = selected(routing.chosen, MEMORIES, None)
    copies = Copies(LAYERS[rule], own)
    found = jax.jit(partial(write_token, copies))(inputs, memories, routing)
    regrouped = jax.jit(lambda *args: _regrouped(rule, *args, there, None))
    wanted = regrouped(inputs, memories, routing)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    unused = np.asarray(~there[:, 0])
    np.testing.assert_array_equal(found[1][unused], memories[unused])


@pytest.mark.parametrize("form", ["packed", "padded"])
def test_later_tokens_move_no_bit_of_earlier_outputs(jit_as_users, form):
    """Later tokens move the slots of other memories; nothing else may change."""
    time, copies = 37, Copies(LAYERS["delta"], True)
    inputs = jax.tree.map(lambda a: a.astype(jnp.float32), _inputs("delta", time, True))
    memories = jnp.ones((BATCH, MEMORIES, HEADS, KEY, VALUE), jnp.float32)
    logits = np.random.default_rng(5).standard_normal((BATCH, time, MEMORIES))

    @jit_as_users
    def run(inputs, logits):
        routing = route(logits, TOP)
        there = selected(routing.chosen, MEMORIES, None)
        return FORMS[form](copies, inputs, memories, routing, there, None)[0]

    before = run(inputs, jnp.asarray(logits, jnp.float32))
    for at in (1, 4, 9, 30):
        # From here all go to the first two memories, whose segments grow.
        other = np.array(logits)
        other[:, at:, :2] += 50
        tokens = inputs.tokens._replace(
            key=inputs.tokens.key.at[:, :, at:].multiply(-2),
            value=inputs.tokens.value.at[:, :, at:].add(3),
        )
        changed = inputs._replace(tokens=tokens)
        after = run(changed, jnp.asarray(other, jnp.float32))
        np.testing.assert_array_equal(after[:, :at], before[:, :at])
        assert not np.array_equal(after[:, at:], before[:, at:])


def test_the_skip_is_added_in_float32():
    read = jnp.ones((1, 1, 1, 2), jnp.bfloat16)
    inputs = MemoryInputs(ScalarDecayTokens(read, read, read), skip=2 * read)
    assert with_skip(read, inputs).dtype == jnp.float32
    np.testing.assert_array_equal(with_skip(read, inputs), 3 * np.ones((1, 1, 1, 2)))
    np.testing.assert_array_equal(with_skip(read, inputs._replace(skip=None)), read)
