"""Prefixes in a matrix memory: what is written where."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from memzoo.models.interface import Layout
from memzoo.models.memory_inputs import MemoryInputs
from memzoo.models.ops.delta_rule import DeltaTokens
from memzoo.models.ops.recurrence import identity_tokens
from memzoo.models.prefix import Encoder, insert_prefixes


def _numbered(first, time):
    """Inputs whose key says which token they are of."""
    number = first + jnp.arange(time, dtype=jnp.float32)
    return jnp.broadcast_to(number[None, :, None, None], (2, time, 1, 1))


def _insert(prefix, reset):
    time = len(prefix[0])
    prefix, reset = (jnp.asarray(x, bool) for x in (prefix, reset))
    own = _numbered(1, time)
    inputs = MemoryInputs(DeltaTokens(own, own, own, own[..., 0]))
    ahead = _numbered(101, time)
    tokens = DeltaTokens(own, ahead, ahead, ahead[..., 0])
    written = MemoryInputs(tokens)
    longer, starts, place = insert_prefixes(written, inputs, prefix, reset)
    return identity_tokens(longer.tokens, longer.valid), starts, place


def test_every_prefix_stands_before_its_document():
    prefix = [[1, 1, 0, 1, 0, 0], [0, 0, 0, 0, 1, 1]]
    reset = [[0, 0, 0, 1, 0, 1], [0, 1, 0, 0, 1, 0]]
    longer, starts, place = _insert(prefix, reset)
    np.testing.assert_array_equal(
        longer.key[..., 0, 0],
        [
            [101, 102, 1, 2, 3, 104, 4, 5, 6, 0, 0, 0],
            [1, 2, 3, 4, 105, 106, 5, 6, 0, 0, 0, 0],
        ],
    )
    np.testing.assert_array_equal(
        longer.query[..., 0, 0],
        [[0, 0, 1, 2, 3, 0, 4, 5, 6, 0, 0, 0], [1, 2, 3, 4, 0, 0, 5, 6, 0, 0, 0, 0]],
    )
    np.testing.assert_array_equal(longer.value, longer.key)
    np.testing.assert_array_equal(longer.write_strength, longer.key[..., 0])
    found = [np.flatnonzero(row).tolist() for row in starts]
    assert found == [[5, 8], [1, 4]]
    np.testing.assert_array_equal(place, [[2, 3, 4, 6, 7, 8], [0, 1, 2, 3, 6, 7]])


def test_a_row_that_is_all_prefix_and_one_without_tokens():
    longer, starts, place = _insert([[1, 1], [0, 0]], [[1, 0], [0, 0]])
    np.testing.assert_array_equal(
        longer.key[..., 0, 0], [[101, 102, 1, 2], [1, 2, 0, 0]]
    )
    np.testing.assert_array_equal(starts, [[1, 0, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(place, [[2, 3], [0, 1]])
    longer, starts, place = _insert([[], []], [[], []])
    assert longer.key.shape == (2, 0, 1, 1)
    assert starts.shape == place.shape == (2, 0)


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
            taps = np.asarray(getattr(encoder, f"{name}_convolution").kernel[...])
            wanted = plain.silu(plain.convolve(part @ kernel, taps))
            got = stream[row, start:end].reshape(len(part), -1)
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)


def test_an_encoder_without_convolutions_is_two_maps():
    encoder = Encoder(4, (4, 4), (1, 1), 0, nnx.Rngs(0), activation=False)
    x = jax.random.normal(jax.random.key(0), (1, 3, 4))
    key, value = encoder(x, Layout())
    np.testing.assert_allclose(key[:, :, 0], x @ encoder.key.kernel[...], rtol=1e-5)
    np.testing.assert_allclose(value[:, :, 0], x @ encoder.value.kernel[...], rtol=1e-5)
