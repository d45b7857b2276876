"""Streams against the same maps in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.interface import Layout
from memzoo.models.projection import RMSNorm
from memzoo.models.streams import (
    Encoder,
    Stream,
    init_tails,
    query_key_value,
    run_streams,
)


def _moved(module):
    """Move every parameter off its initial value."""
    rng = np.random.default_rng(1)
    state = jax.tree.map(
        lambda a: a + jnp.asarray(rng.standard_normal(a.shape), a.dtype),
        nnx.state(module, nnx.Param),
    )
    nnx.update(module, state)


@pytest.mark.parametrize("activation", [True, False])
@pytest.mark.parametrize("taps", [0, 2])
@pytest.mark.parametrize("bias", [False, True])
def test_streams_are_projected_convolved_activated_and_normed(
    plain, taps, activation, bias
):
    streams = query_key_value(
        4,
        (6, 6, 9),
        (2, 2, 3),
        taps,
        nnx.Rngs(0),
        activation=activation,
        bias=bias,
        convolution_bias=bias,
    )
    streams[1].norm = RMSNorm(3, 1e-2, zero_centred=True)
    for stream in streams:
        _moved(stream)
    x = np.random.default_rng(0).standard_normal((1, 5, 4)).astype(np.float32)
    run = jax.jit(lambda x, tails: run_streams(streams, x, tails, Layout()))
    found, tails = run(x, init_tails(streams, 1))
    assert [tail.shape for tail in tails] == (
        [(1, 1, 6), (1, 1, 6), (1, 1, 9)] if taps else []
    )
    for index, (stream, array) in enumerate(zip(streams, found, strict=True)):
        wanted = x[0] @ np.asarray(stream.kernel[...])
        if bias:
            wanted = wanted + np.asarray(stream.bias[...])
        if taps:
            made = stream.convolution
            shift = np.asarray(made.bias[...]) if bias else 0.0
            wanted = plain.convolve(wanted, np.asarray(made.kernel[...]), shift)
        if activation:
            wanted = plain.silu(wanted)
        wanted = wanted.reshape(5, (2, 2, 3)[index], 3)
        if index == 1:
            root = np.sqrt(np.mean(wanted**2, axis=-1, keepdims=True) + 1e-2)
            wanted = wanted / root * (1 + np.asarray(stream.norm.scale[...]))
        np.testing.assert_allclose(array[0], wanted, rtol=1e-4, atol=1e-5)


def test_a_stream_without_a_projection_takes_the_one_before_it():
    query, value = (Stream(4, 6, 2, nnx.Rngs(i)) for i in range(2))
    key = Stream(None, 6, 2, nnx.Rngs(2))
    key.add_convolution(3, nnx.Rngs(3))
    streams = (query, key, value)
    x = jax.random.normal(jax.random.key(0), (1, 5, 4))
    tails = init_tails(streams, 1)
    assert [tail.shape for tail in tails] == [(1, 0, 6), (1, 2, 6), (1, 0, 6)]
    (_, k, _), after = run_streams(streams, x, tails, Layout())
    projected = query.project(x)
    wanted, tail = key.convolution(projected, tails[1], Layout())
    np.testing.assert_allclose(k, wanted.reshape(1, 5, 2, 3), rtol=1e-6)
    np.testing.assert_allclose(after[1], tail)


def test_the_heads_of_a_first_token_need_no_tail():
    stream = Stream(4, 6, 2, nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (1, 5, 4))
    wanted = np.asarray(x) @ np.asarray(stream.kernel[...])
    np.testing.assert_allclose(
        stream.heads(x), wanted.reshape(1, 5, 2, 3), rtol=1e-5, atol=1e-6
    )


def test_the_encoder_convolves_within_a_document(plain):
    encoder = Encoder(4, (6, 4), (2, 1), 3, nnx.Rngs(0), activation=True)
    x = jax.random.normal(jax.random.key(0), (2, 7, 4))
    reset = jnp.zeros((2, 7), bool).at[0, 3].set(True)
    key, value = encoder(x, Layout(reset=reset))
    assert key.shape == (2, 7, 2, 3)
    assert value.shape == (2, 7, 1, 4)
    for row, start, end in ((0, 0, 3), (0, 3, 7), (1, 0, 7)):
        part = np.asarray(x[row, start:end], np.float64)
        for name, stream in (("key", key), ("value", value)):
            kernel = np.asarray(getattr(encoder, name).kernel[...])
            taps = np.asarray(getattr(encoder, name).convolution.kernel[...])
            wanted = plain.silu(plain.convolve(part @ kernel, taps))
            got = stream[row, start:end].reshape(len(part), -1)
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)


def test_an_encoder_without_convolutions_is_two_maps():
    encoder = Encoder(4, (4, 4), (1, 1), 0, nnx.Rngs(0), activation=False)
    x = jax.random.normal(jax.random.key(0), (1, 3, 4))
    key, value = encoder(x, Layout())
    np.testing.assert_allclose(key[:, :, 0], x @ encoder.key.kernel[...], rtol=1e-5)
    np.testing.assert_allclose(value[:, :, 0], x @ encoder.value.kernel[...], rtol=1e-5)
