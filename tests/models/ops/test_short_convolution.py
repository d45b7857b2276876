from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.short_convolution import (
    previous_token,
    short_convolution,
    short_convolution_step,
)

# One program each, instead of many small ones.
convolve, step = jax.jit(short_convolution), jax.jit(short_convolution_step)


def _inputs(time=9, width=3, taps=4):
    rng = np.random.default_rng(0)
    shapes = {
        "x": (2, time, width),
        "kernel": (taps, width),
        "tail": (2, taps - 1, width),
        "bias": (width,),
    }
    return {name: jnp.asarray(rng.standard_normal(s)) for name, s in shapes.items()}


@pytest.mark.parametrize("taps", [1, 2, 4])
def test_convolution_equals_numpy(x64, taps):
    inputs = _inputs(taps=taps)
    y, tail = convolve(**inputs)
    whole = np.concatenate([inputs["tail"], inputs["x"]], axis=1)
    for row in range(2):
        for channel in range(3):
            # numpy flips the filter, so its first entry multiplies the newest token.
            taps_first = np.asarray(inputs["kernel"])[::-1, channel]
            wanted = np.convolve(whole[row, :, channel], taps_first, "valid")
            wanted = wanted + inputs["bias"][channel]
            np.testing.assert_allclose(y[row, :, channel], wanted, rtol=1e-12)
    np.testing.assert_array_equal(tail, whole[:, whole.shape[1] - taps + 1 :])


@pytest.mark.parametrize("taps", [1, 4])
def test_steps_equal_the_sequence(x64, taps):
    inputs = _inputs(taps=taps)
    y, last = convolve(**inputs)
    tail = inputs["tail"]
    for t in range(9):
        token, tail = step(inputs["x"][:, t], inputs["kernel"], tail, inputs["bias"])
        np.testing.assert_allclose(token, y[:, t], rtol=1e-12)
    np.testing.assert_array_equal(tail, last)


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_parts_equal_the_whole(x64, cut):
    inputs = _inputs()
    x = inputs.pop("x")
    tail = inputs.pop("tail")
    y, last = convolve(x, tail=tail, **inputs)
    first, tail = convolve(x[:, :cut], tail=tail, **inputs)
    second, tail = convolve(x[:, cut:], tail=tail, **inputs)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), y, rtol=1e-12)
    np.testing.assert_array_equal(tail, last)


@pytest.mark.parametrize("starts", [[0], [4], [7], [8], [3, 4, 6]])
def test_packed_documents_equal_separate_runs(x64, starts):
    inputs = _inputs()
    x = inputs.pop("x")
    tail = inputs.pop("tail")
    reset = jnp.zeros((2, 9), bool).at[:, jnp.asarray(starts)].set(True)
    y, last = convolve(x, tail=tail, reset=reset, **inputs)
    edges = [0, *starts, 9] if starts[0] else [*starts, 9]
    pieces = []
    for begin, end in pairwise(edges):
        if begin in starts:
            tail = jnp.zeros_like(tail)
        piece, tail = convolve(x[:, begin:end], tail=tail, **inputs)
        pieces.append(piece)
    np.testing.assert_allclose(jnp.concatenate(pieces, axis=1), y, rtol=1e-12)
    np.testing.assert_array_equal(last, tail)


@pytest.mark.parametrize("resets", [True, False])
@pytest.mark.parametrize("taps", [1, 4])
def test_tokens_after_the_length_are_ignored(x64, taps, resets):
    inputs = _inputs(taps=taps)
    x = inputs.pop("x")
    tail = inputs.pop("tail")
    reset = jnp.zeros((2, 9), bool).at[:, 1].set(True) if resets else None
    length = jnp.asarray([0, 5], jnp.int32)
    _, last = convolve(x, tail=tail, reset=reset, length=length, **inputs)
    np.testing.assert_array_equal(last[0], tail[0])
    short = None if reset is None else reset[:, :5]
    _, expected = convolve(x[:, :5], tail=tail, reset=short, **inputs)
    np.testing.assert_array_equal(last[1], expected[1])


def test_gradient_of_every_input_equals_finite_differences(x64):
    inputs = _inputs(time=5)
    reset = jnp.zeros((2, 5), bool).at[0, 2].set(True)
    weights = jnp.asarray(np.random.default_rng(2).standard_normal((2, 5, 3)))

    @jax.jit
    def loss(inputs):
        y, tail = convolve(**inputs, reset=reset)
        return jnp.sum(weights * y**2) + jnp.sum(tail**3)

    gradient = jax.grad(loss)(inputs)
    direction = {
        name: jnp.asarray(np.random.default_rng(3).standard_normal(x.shape))
        for name, x in inputs.items()
    }
    for name in inputs:
        ends = [
            loss({**inputs, name: inputs[name] + sign * 1e-6 * direction[name]})
            for sign in (1, -1)
        ]
        slope = (ends[0] - ends[1]) / 2e-6
        found = jnp.sum(gradient[name] * direction[name])
        np.testing.assert_allclose(found, slope, rtol=1e-7, err_msg=name)


def test_types_of_input_and_tail_are_kept():
    inputs = _inputs()
    x = inputs.pop("x").astype(jnp.bfloat16)
    tail = inputs.pop("tail").astype(jnp.float32)
    y, last = convolve(x, tail=tail, **inputs)
    assert y.dtype == jnp.bfloat16 and last.dtype == jnp.float32


def test_a_tail_of_the_wrong_length_is_refused():
    inputs = _inputs()
    with pytest.raises(ValueError, match="tail has 2 tokens; for a kernel of 4 rows"):
        convolve(**{**inputs, "tail": inputs["tail"][:, 1:]})


@pytest.mark.parametrize("length", [None, [9, 0]])
def test_the_previous_token_is_zero_where_a_document_begins(length):
    x, tail = (np.asarray(_inputs(taps=2)[name]) for name in ("x", "tail"))
    reset = np.zeros((2, 9), bool)
    reset[0, [0, 4]] = True
    lengths = None if length is None else jnp.asarray(length)
    found, after = previous_token(
        jnp.asarray(x), jnp.asarray(tail), reset=jnp.asarray(reset), length=lengths
    )
    wanted = np.concatenate([tail, x[:, :-1]], axis=1)
    wanted[reset] = 0
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(after[0], x[0, -1:])
    np.testing.assert_array_equal(after[1], tail[1] if length else x[1, -1:])
