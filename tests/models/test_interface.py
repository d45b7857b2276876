"""The interface every layer shares: masks, positions, padding, sizes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jaxtyping import Array, Float, Int

from memzoo.models.delta_net import DeltaNetConfig
from memzoo.models.interface import (
    Layout,
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
    """Puts out the sum of the document so far; keeps the layout it was given."""

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
        return jnp.stack(outputs, axis=1), state

    def token(self, x, state):
        total = state.total + x
        return total, SumState(total, state.position + 1)


class Prefixed(RunningSum):
    accepts_prefix = True


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
        # Document starts on padding are not seen.
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
    with pytest.raises(ValueError, match="RunningSum reads causally and refuses"):
        layer(x, layer.init_state(3, 0), SequenceInfo(prefix=prefix))
    accepting = Prefixed()
    accepting(x, accepting.init_state(3, 0), SequenceInfo(prefix=prefix))
    np.testing.assert_array_equal(accepting.given[1].prefix, prefix)
    with pytest.raises(ValueError, match=r"Prefixed\.step cannot read a prefix"):
        accepting.step(
            x[:, 0], accepting.init_state(3, 0), TokenInfo(prefix=prefix[:, 0])
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


def test_layers_refuse_nothing_unless_they_say_so():
    layer = RunningSum()
    layer.check_capacity(layer.init_state(1, 0), 10**9, "layer")


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


def test_a_prefix_is_what_a_document_begins_with_marked_without_a_gap():
    reset = jnp.array([[0, 0, 0, 1, 0, 0, 0]] * 4, bool)
    prefix = [[1, 1, 0, 1, 0, 1, 1], [1, 0, 1, 0, 1, 1, 1], [1] * 7, [0] * 7]
    position = jnp.array([0, 0, 4, 0])
    layout = Layout(reset=reset, prefix=jnp.array(prefix, bool))
    np.testing.assert_array_equal(
        layout.prefix_tokens(position, 7),
        # The third row's first document was begun before.
        [[1, 1, 0, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 1], [0] * 7],
    )
    whole = layout._replace(reset=None).prefix_tokens(position, 7)
    np.testing.assert_array_equal(whole.sum(axis=1), [2, 1, 0, 0])
    assert Layout(reset=reset).prefix_tokens(position, 7) is None
