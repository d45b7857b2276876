from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.chunk_scan import (
    chunk_scan,
    chunk_scan_with_gradient,
    merge_chunks,
    put_memory,
    resolve_form,
    split_chunks,
    split_segments,
    take_memory,
)


def _running_sum(memory, tokens, segment):
    """Sum the tokens from the last document start into the memory."""
    if segment is None:
        total = memory[:, None] + jnp.cumsum(tokens, axis=1)
        return total[:, -1], total, ()
    same = segment[:, :, None] == segment[:, None, :]
    causal = jnp.tril(jnp.ones(same.shape, bool))
    total = jnp.sum(jnp.where(causal & same, tokens[:, None, :], 0), axis=2)
    total = total + jnp.where(segment == 0, memory[:, None], 0)
    return total[:, -1], total, ()


def _scan(start, tokens, reset=None, which=None):
    segments = None if reset is None else split_segments(reset, 4)
    chunks = split_chunks(tokens, 4)
    total, memory = chunk_scan(_running_sum, start, chunks, segments, which)
    return merge_chunks(total, tokens.shape[1]), memory


@pytest.mark.parametrize("time", [0, 1, 3, 4, 5, 11])
def test_scan_over_chunks_equals_one_pass(time):
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 9, (2, time)), float)
    start = jnp.asarray([1.0, 2.0])
    run = jax.jit(_scan)
    total, memory = run(start, tokens)
    expected = np.asarray(start)[:, None] + np.cumsum(tokens, axis=1)
    np.testing.assert_allclose(total, expected)
    np.testing.assert_allclose(memory, np.asarray(start) + np.sum(tokens, axis=1))


def test_document_starts_forget_what_came_before():
    tokens = jnp.ones((2, 11))
    reset = jnp.zeros((2, 11), bool).at[0, 5].set(True).at[1, 0].set(True)
    run = jax.jit(_scan)
    total, memory = run(jnp.asarray([10.0, 10.0]), tokens, reset=reset)
    first = [11, 12, 13, 14, 15, 1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(total, [first, list(range(1, 12))])
    np.testing.assert_allclose(memory, [6, 11])


def test_gradients_pass_through_the_scan():
    def last(start, tokens):
        return jnp.sum(_scan(start, tokens)[0][:, -1])

    start, tokens = jax.jit(jax.grad(last, (0, 1)))(jnp.ones(2), jnp.ones((2, 11)))
    np.testing.assert_allclose(start, 1)
    np.testing.assert_allclose(tokens, 1)


@pytest.mark.parametrize("resets", [True, False])
def test_a_given_gradient_is_used_and_equals_autodiff(resets):
    """The body saves nothing useful: this checks memory and cotangents."""

    def forward(memory, tokens, segment):
        return *_running_sum(memory, tokens, segment)[:2], jnp.zeros(())

    def backward(memory, tokens, segment, saved, dmemory, doutput):
        def run(memory, tokens):
            return _running_sum(memory, tokens, segment)[:2]

        dmemory, dtokens = jax.vjp(run, memory, tokens)[1]((dmemory, doutput))
        return dmemory, dtokens + saved

    rng = np.random.default_rng(0)
    tokens, weights = (jnp.asarray(rng.standard_normal((2, 11))) for _ in range(2))
    reset = jnp.zeros((2, 11), bool).at[0, 6].set(True) if resets else None

    def plain(start, tokens):
        total, memory = _scan(start, tokens, reset)
        return jnp.sum(total**2 * weights) + jnp.sum(memory**3)

    def given(start, tokens):
        segments = None if reset is None else split_segments(reset, 4)
        chunks = split_chunks(tokens, 4)
        total, memory = chunk_scan_with_gradient(
            forward, backward, start, chunks, segments
        )
        total = merge_chunks(total, 11)
        return jnp.sum(total**2 * weights) + jnp.sum(memory**3)

    start = jnp.asarray([1.0, 2.0])
    expected, found = (
        jax.jit(jax.value_and_grad(run, (0, 1)))(start, tokens)
        for run in (plain, given)
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-5), found, expected)


@pytest.mark.parametrize("time", [0, 7, 8, 9])
def test_merge_undoes_split(time):
    tree = {"a": jnp.arange(2.0 * time).reshape(2, time), "b": None}
    chunks = split_chunks(tree, 4)
    assert chunks["a"].shape == (-(-time // 4), 2, 4)
    np.testing.assert_array_equal(merge_chunks(chunks, time)["a"], tree["a"])


def test_segments_count_document_starts_from_each_chunk_on():
    reset = jnp.asarray([[False, True, False, True, True, False]])
    segments = split_segments(reset, 4)
    np.testing.assert_array_equal(segments, [[[0, 1, 1, 2]], [[1, 1, 1, 1]]])


def test_unknown_form_is_refused():
    assert resolve_form("auto") in ("scan", "parallel")
    with pytest.raises(ValueError, match="form is 'fast'; choose auto, scan"):
        resolve_form("fast")


def test_chunks_of_several_memories(x64):
    """Each chunk uses the memory with its index; the others are unchanged."""
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.standard_normal((2, 11)))
    start = jnp.asarray(rng.standard_normal((2, 3)))
    which = jnp.asarray([[1, 1, 0], [2, 0, 2]])

    @jax.jit
    def run(start, tokens):
        return _scan(start, tokens, which=which)

    total, memory = run(start, tokens)
    held, wanted = np.array(start), np.zeros((2, 11))
    for row, t in np.ndindex(2, 11):
        name = int(which[row, t // 4])
        held[row, name] += tokens[row, t]
        wanted[row, t] = held[row, name]
    np.testing.assert_allclose(total, wanted, rtol=1e-12)
    np.testing.assert_allclose(memory, held, rtol=1e-12)
    np.testing.assert_array_equal(memory[0, 2], start[0, 2])
    gradient = jax.jit(jax.grad(lambda start: jnp.sum(run(start, tokens)[0])))(start)
    uses = [[3, 8, 0], [4, 0, 7]]
    np.testing.assert_allclose(gradient, uses)


def test_what_is_taken_can_be_put_back():
    memories = {"a": jnp.arange(12.0).reshape(2, 3, 2)}
    which = jnp.array([2, 0])
    taken = take_memory(memories, which)
    np.testing.assert_array_equal(taken["a"], [[4, 5], [6, 7]])
    put = put_memory(memories, which, {"a": -taken["a"]})["a"]
    np.testing.assert_array_equal(put[0], [[0, 1], [2, 3], [-4, -5]])
    np.testing.assert_array_equal(put[1], [[-6, -7], [8, 9], [10, 11]])
    assert take_memory(memories, None) is memories
    assert put_memory(memories, None, taken) is taken
