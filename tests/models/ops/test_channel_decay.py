"""Decayed reads, keys and scores against their definition, element by element."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.channel_decay import decay_chunk, keep, kept_cotangent

SHAPE = (2, 3)  # Rows and heads.


def _inputs(size, channels, decay=1.0):
    rng = np.random.default_rng(size)
    read, key = rng.standard_normal((2, *SHAPE, size, 4))
    log_decay = -decay * rng.uniform(size=(*SHAPE, size, channels))
    return read, key, log_decay


def _by_definition(read, key, log_decay, segment):
    """Return the sums of the log decays between, one pair and channel at a time."""
    size = key.shape[-2]
    log_decay = np.broadcast_to(log_decay, key.shape)
    scores = np.zeros((*SHAPE, size, size))
    for row, i, j in np.ndindex(SHAPE[0], size, size):
        if j <= i and segment[row, i] == segment[row, j]:
            decay = np.exp(np.sum(log_decay[row, :, j + 1 : i + 1], axis=1))
            pair = read[row, :, i] * key[row, :, j] * decay
            scores[row, :, i, j] = np.sum(pair, axis=-1)
    carried = np.exp(np.cumsum(log_decay, axis=2)) * read
    carried *= (segment == 0)[:, None, :, None]
    later = np.cumsum(log_decay[:, :, ::-1], axis=2)[:, :, ::-1] - log_decay
    remaining = np.exp(later) * key * (segment == segment[:, -1:])[:, None, :, None]
    kept = np.exp(np.sum(log_decay, axis=2)) * (segment[:, -1] == 0)[:, None, None]
    return scores, carried, remaining, kept


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("size", [1, 11, 40])
def test_a_chunk_is_its_definition(x64, size, channels):
    read, key, log_decay = _inputs(size, channels)
    segment = np.cumsum(np.arange(size)[None] == [[size // 2], [size + 1]], axis=1)
    run = jax.jit(partial(decay_chunk, operand=jnp.float64))
    part = run((read, 2 * read), key, log_decay, jnp.asarray(segment, jnp.int32))
    scores, carried, remaining, kept = _by_definition(read, key, log_decay, segment)
    close = partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12)
    close(part.scores[0], scores)
    close(part.scores[1], 2 * scores)
    close(part.reads[0], carried)
    close(part.keys, remaining)
    memory = jnp.ones((*SHAPE, 4, 2))
    close(keep(memory, part.kept), kept[..., None] * np.ones(memory.shape))


def test_decays_that_erase_give_zeros_and_finite_gradients():
    read, key, log_decay = (np.float32(x) for x in _inputs(40, 4, decay=0.1))
    log_decay[:, :, ::7] = -np.inf

    def total(read, key, log_decay):
        part = decay_chunk((read,), key, log_decay, None, operand=jnp.float32)
        return sum(jnp.sum(x) for x in jax.tree.leaves(part)), part

    pull = jax.jit(jax.grad(total, (0, 1, 2), has_aux=True))
    gradient, part = pull(read, key, log_decay)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves((gradient, part)))
    np.testing.assert_array_equal(part.scores[0][..., 7:, :7], 0)
    assert np.all(part.scores[0][..., 8, 7] != 0)
    np.testing.assert_array_equal(part.kept, 0)


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 1), (2, 1, 1)])
def test_the_cotangent_of_what_is_kept(x64, shape):
    rng = np.random.default_rng(0)
    memory, cotangent = jnp.asarray(rng.standard_normal((2, 2, 3, 4, 5)))
    kept = jnp.asarray(rng.uniform(size=shape))
    wanted = jax.grad(lambda kept: jnp.sum(keep(memory, kept) * cotangent))(kept)
    found = kept_cotangent(memory, cotangent, kept)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert kept_cotangent(memory, cotangent, None) is None
