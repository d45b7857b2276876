"""The interface of all layers: masks, positions, padding and sizes."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jaxtyping import Array, Float, Int

from memzoo.models.attention import AttentionConfig
from memzoo.models.delta_net import DeltaNetConfig
from memzoo.models.interface import (
    MemoryLayer,
    SequenceInfo,
    TokenInfo,
    state_bytes,
    state_spec,
)
from memzoo.models.ops.recurrence import select


class SumState(NamedTuple):
    total: Float[Array, "b d"]
    position: Int[Array, "b"]


class RunningSum(MemoryLayer[SumState]):
    """Outputs the sum of the document so far, and stores the layout it receives."""

    def init_state(self, batch_size, max_length):
        total = jnp.zeros((batch_size, 3))
        return SumState(total, jnp.zeros((batch_size,), jnp.int32))

    def sequence(self, x, state, layout):
        self.given = nnx.data((x, layout))
        outputs = []
        for t in range(x.shape[1]):
            if layout.reset is not None:
                fresh = self.init_state(x.shape[0], 0)
                state = select(layout.reset[:, t], fresh, state)
            y, after = self.token(x[:, t], state)
            if layout.length is not None:
                after = select(t < layout.length, after, state)
            outputs.append(y)
            state = after
        return jnp.stack(outputs, axis=1) if outputs else x, state

    def token(self, x, state):
        total = state.total + x
        return total, SumState(total, state.position + 1)


class Prefixed(RunningSum):
    accepts_prefix = True


class Limited(RunningSum):
    """Holds documents of up to this many tokens, or serves one call (0)."""

    def __init__(self, room):
        self.room = room

    def capacity(self, state):
        return self.room


@pytest.fixture
def x():
    return jnp.asarray(np.random.default_rng(0).standard_normal((3, 7, 3)))


MASKS = np.array(
    [[0, 1, 1, 0, 1, 0, 1], [1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0]], bool
)
STARTS = np.array(
    [[1, 0, 1, 1, 0, 0, 1], [0, 0, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 1, 0]], bool
)


def test_real_tokens_stand_first_in_order(x):
    layer = Prefixed()
    info = SequenceInfo(jnp.asarray(STARTS), jnp.asarray(MASKS), jnp.asarray(STARTS))
    layer(x.at[0, 3].set(jnp.nan), layer.init_state(3, 0), info)
    packed, layout = layer.given
    np.testing.assert_array_equal(layout.length, [4, 7, 0])
    np.testing.assert_array_equal(layout.valid(7), np.arange(7) < [[4], [7], [0]])
    for row in range(3):
        real = np.flatnonzero(MASKS[row])
        wanted = np.zeros((7, 3), np.float32)
        wanted[: len(real)] = x[row, real]
        np.testing.assert_array_equal(packed[row], wanted)
        # Document starts on padding are ignored.
        starts = np.zeros(7, bool)
        starts[: len(real)] = STARTS[row, real]
        np.testing.assert_array_equal(layout.reset[row], starts)
        np.testing.assert_array_equal(layout.prefix[row], starts)


@pytest.mark.parametrize("mask", ["arbitrary", "left", "right"])
def test_padding_puts_out_zero_and_is_skipped(x, mask):
    valid = {
        "arbitrary": MASKS,
        "left": np.arange(7) >= np.array([[3], [0], [7]]),
        "right": np.arange(7) < np.array([[3], [7], [0]]),
    }[mask]
    layer = RunningSum()
    start = layer.init_state(3, 0)._replace(
        total=jnp.ones((3, 3)), position=jnp.array([5, 6, 7])
    )
    info = SequenceInfo(jnp.asarray(STARTS), jnp.asarray(valid))
    y, state = layer(x, start, info)
    for row in range(3):
        total, position = np.ones(3), 5 + row
        for t in range(7):
            if not valid[row, t]:
                np.testing.assert_array_equal(y[row, t], 0)
                continue
            if STARTS[row, t]:
                total, position = np.zeros(3), 0
            total, position = total + x[row, t], position + 1
            np.testing.assert_allclose(y[row, t], total, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(state.total[row], total, rtol=1e-5, atol=1e-6)
        assert state.position[row] == position


def test_step_resets_and_skips_rows(x):
    layer = RunningSum()
    state = layer.init_state(3, 0)._replace(
        total=jnp.ones((3, 3)), position=jnp.array([5, 6, 7])
    )
    info = TokenInfo(jnp.array([True, True, False]), jnp.array([True, False, True]))
    y, after = layer.step(x[:, 0], state, info)
    np.testing.assert_array_equal(y[0], x[0, 0])
    np.testing.assert_array_equal(y[1], 0)
    np.testing.assert_array_equal(y[2], x[2, 0] + 1)
    np.testing.assert_array_equal(after.position, [1, 6, 8])
    np.testing.assert_array_equal(after.total[1], state.total[1])


def test_a_prefix_is_refused_by_who_reads_causally_and_by_step(x):
    prefix = jnp.ones((3, 7), bool)
    layer = RunningSum()
    with pytest.raises(ValueError, match="RunningSum does not accept a prefix"):
        layer(x, layer.init_state(3, 0), SequenceInfo(prefix=prefix))
    accepting = Prefixed()
    accepting(x, accepting.init_state(3, 0), SequenceInfo(prefix=prefix))
    np.testing.assert_array_equal(accepting.given[1].prefix, prefix)
    with pytest.raises(ValueError, match=r"Prefixed\.step cannot read a prefix"):
        accepting.step(
            x[:, 0], accepting.init_state(3, 0), TokenInfo(prefix=prefix[:, 0])
        )


def test_layers_refuse_nothing_unless_they_say_so():
    layer = RunningSum()
    layer.check_capacity(layer.init_state(1, 0), 10**9, "layer")


# Rows at position 0, 2 and 5; the documents of `STARTS`; the padding of `MASKS`.
CARRIED = np.array([0, 2, 5])
INFOS = {
    "plain": SequenceInfo(),
    "documents": SequenceInfo(jnp.asarray(STARTS)),
    "padding": SequenceInfo(jnp.asarray(STARTS), jnp.asarray(MASKS)),
}


def _fits(room, info):
    """Return whether each token fits into the state, counted one by one."""
    fits = np.ones((3, 7), bool)
    for row in range(3):
        place, carried = CARRIED[row], CARRIED[row] > 0
        for t in range(7):
            if info.valid is not None and not info.valid[row, t]:
                continue
            if info.reset is not None and info.reset[row, t]:
                place, carried = 0, False
            fits[row, t] = place < room if room else not carried
            place += 1
    return fits


@pytest.mark.parametrize("room", [0, 1, 4, 100])
@pytest.mark.parametrize("masks", INFOS)
def test_inside_jit_what_does_not_fit_is_no_number_and_all_else_is_as_it_was(
    x, room, masks
):
    info = INFOS[masks]
    run = jax.jit(lambda layer, *given: layer()(*given), static_argnums=0)
    start = RunningSum().init_state(3, 0)._replace(position=jnp.asarray(CARRIED))
    wanted, after = run(RunningSum, x, start, info)
    y, state = run(functools.partial(Limited, room), x, start, info)
    fits = _fits(room, info)
    np.testing.assert_array_equal(
        np.isnan(y), np.broadcast_to(~fits[..., None], y.shape)
    )
    np.testing.assert_array_equal(y[fits], wanted[fits])
    np.testing.assert_array_equal(state.total, after.total)


@pytest.mark.parametrize("room", [0, 1, 4, 100])
@pytest.mark.parametrize("masks", INFOS)
def test_outside_jit_what_does_not_fit_is_refused(x, room, masks):
    info = INFOS[masks]
    start = RunningSum().init_state(3, 0)._replace(position=jnp.asarray(CARRIED))
    if np.all(_fits(room, info)):
        y, _ = Limited(room)(x, start, info)
        np.testing.assert_array_equal(y, RunningSum()(x, start, info)[0])
        return
    message = (
        f"Limited: the document would reach .* tokens.* allocated for {room}; give "
        "max_length="
        if room
        else "Limited: the state was made with max_length 0, for one call, and cannot "
    )
    with pytest.raises(ValueError, match=message):
        Limited(room)(x, start, info)


def test_a_step_takes_a_token_while_there_is_room(x):
    start = RunningSum().init_state(3, 0)._replace(position=jnp.array([2, 3, 9]))
    layer, step = (
        Limited(3),
        jax.jit(lambda layer, *a: layer.step(*a), static_argnums=0),
    )
    y, _ = step(layer, x[:, 0], start)
    np.testing.assert_array_equal(np.isnan(y[:, 0]), [False, True, True])
    np.testing.assert_array_equal(y[0], x[0, 0])
    with pytest.raises(ValueError, match="Limited: the document would reach 10 tokens"):
        layer.step(x[:, 0], start)
    # A new document has room again, and padding needs none.
    info = TokenInfo(jnp.array([False, True, False]), jnp.array([True, True, False]))
    for run in (step, lambda layer, *a: layer.step(*a)):
        y, after = run(layer, x[:, 0], start, info)
        np.testing.assert_array_equal(
            y, np.where(np.arange(3)[:, None] < 2, x[:, 0], 0)
        )
        np.testing.assert_array_equal(after.position, [3, 1, 9])


def test_a_state_for_one_call_takes_no_step_inside_jit_either(x):
    state = RunningSum().init_state(3, 0)
    for run in (Limited(0).step, jax.jit(lambda x, state: Limited(0).step(x, state))):
        with pytest.raises(ValueError, match="Limited: the state was made with max_le"):
            run(x[:, 0], state)


def test_a_call_over_no_token_is_never_too_much(x):
    state = RunningSum().init_state(3, 0)._replace(position=jnp.array([2, 3, 9]))
    for room in (0, 3):
        y, _ = Limited(room)(
            x[:, :0], state, SequenceInfo(valid=jnp.asarray(MASKS[:, :0]))
        )
        assert y.shape == (3, 0, 3)
        Limited(room).check_capacity(state, 0, "layer")
        Limited(room)(x[:0], RunningSum().init_state(0, 0))


def test_what_the_trace_knows_is_refused_in_it(x):
    state = RunningSum().init_state(3, 0)._replace(position=jnp.array([2, 3, 9]))
    with pytest.raises(ValueError, match="Limited: the document would reach 16 tokens"):
        jax.grad(lambda x: jnp.sum(Limited(4)(x, state)[0]))(x)


def test_check_capacity_refuses_what_a_call_would(x):
    state = RunningSum().init_state(3, 0)._replace(position=jnp.array([2, 3, 1]))
    Limited(5).check_capacity(state, 2, "mine")
    with pytest.raises(ValueError, match=r"mine: .* reach 6 tokens.* max_length=6 or"):
        Limited(5).check_capacity(state, 3, "mine")
    Limited(0).check_capacity(RunningSum().init_state(3, 0), 10**9, "mine")
    with pytest.raises(ValueError, match="mine: the state was made with max_length 0"):
        Limited(0).check_capacity(state, 1, "mine")


def test_bytes_of_the_state_leave_positions_out():
    config = DeltaNetConfig(num_heads=2)
    layer = config.build(8, nnx.Rngs(0), layer_index=0, depth=1)
    memory, tails = 2 * 4 * 4, 3 * 3 * 8
    assert state_bytes(layer, 1) == state_bytes(layer, 10**6) == 4 * (memory + tails)


def test_the_state_of_an_abstract_layer_is_known():
    config = DeltaNetConfig(num_heads=2)
    layer = nnx.eval_shape(lambda: config.build(8, nnx.Rngs(0), layer_index=0, depth=1))
    spec = state_spec(layer, 5, 0)
    assert spec.memory == jax.ShapeDtypeStruct((5, 2, 4, 4), jnp.float32)
    assert spec.position == jax.ShapeDtypeStruct((5,), jnp.int32)


def test_rows_and_axes_that_do_not_fit_the_state_are_refused():
    layer = AttentionConfig(num_heads=2).build(16, nnx.Rngs(0), layer_index=0, depth=1)
    state, x = layer.init_state(2, 8), jnp.ones((1, 4, 16))
    said = "Attention: the batch size of x is 1, of the state 2; give both the"
    for run in (lambda: layer(x, state), lambda: layer.step(x[:, 0], state)):
        with pytest.raises(ValueError, match=said):
            run()
    # The tests check signatures, so call the method directly.
    for axes in ("b d", "b t d c"):
        said = rf"x has shape \(1, 4, 16\); give it the axes `{axes}`"
        with pytest.raises(ValueError, match=said):
            layer._check_axes(x, axes)
