"""The compressive memory against a loop over segments, and its two normalisers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.compressive_memory import (
    CompressiveMemory,
    CompressiveTokens,
    compressive_chunkwise,
    compressive_recurrent,
    new_compressive_memory,
)

BATCH, TIME, HEADS, KEY, VALUE, SEGMENT = 2, 13, 2, 3, 2, 4


def tokens_of(time=TIME):
    rng = np.random.default_rng(0)
    shape = (BATCH, time, HEADS)
    q, k = rng.standard_normal((2, *shape, KEY))
    v = rng.standard_normal((*shape, VALUE))
    return CompressiveTokens(jnp.asarray(q), jnp.asarray(k), jnp.asarray(v))


def features(x, write):
    y = np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))
    if write == "exact_delta":
        y = y / np.sqrt(np.sum(y * y, axis=-1, keepdims=True) + 1e-6)
    return y


def numpy_segments(tokens, write):
    """Return the reads of one head, and its memory, one segment after the other."""
    q, k, v = tokens
    q, k = features(q, write), features(k, write)
    m, z, out = np.zeros((KEY, VALUE)), np.zeros(KEY), []
    for start in range(0, len(q), SEGMENT):
        part = slice(start, start + SEGMENT)

        def read(x, m=m, z=z):
            weight = 1 if write == "exact_delta" else x @ z + 1e-6
            return x @ m / weight

        out += [read(x) for x in q[part]]
        for key, value in zip(k[part], v[part], strict=True):
            error = value - (read(key) if write == "delta" else 0)
            if write == "exact_delta":
                error = value - key @ m
            m = m + np.outer(key, error)
            z = z + key
    return np.stack(out), m


@pytest.mark.parametrize("write", ["sum", "delta", "exact_delta"])
def test_the_loop_over_segments(x64, write):
    tokens = tokens_of()
    memory = new_compressive_memory(BATCH, HEADS, KEY, VALUE)
    memory = jax.tree.map(lambda x: x.astype(jnp.float64), memory)
    memory = memory._replace(position=jnp.zeros((BATCH,), jnp.int32))
    run = jax.jit(partial(compressive_chunkwise, segment_size=SEGMENT, write=write))
    read, after = run(tokens, memory)
    for b, h in np.ndindex(BATCH, HEADS):
        plain = (np.asarray(x)[b, :, h] for x in tokens)
        out, m = numpy_segments(plain, write)
        np.testing.assert_allclose(read[b, :, h], out, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(after.matrix[b, h], m, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("write", ["delta", "exact_delta"])
def test_both_forms_are_equal(x64, write):
    """Rows hold several documents, padding, and a segment begun in an earlier call."""
    rng = np.random.default_rng(1)
    matrices = rng.standard_normal((2, BATCH, HEADS, KEY, VALUE))
    totals = rng.uniform(1, 2, (2, BATCH, HEADS, KEY))
    memory = CompressiveMemory(
        matrix=jnp.asarray(matrices[0]),
        total=jnp.asarray(totals[0]),
        matrix_before=jnp.asarray(matrices[1]),
        total_before=jnp.asarray(totals[1]),
        position=jnp.asarray([3, 5]),
    )
    valid = jnp.arange(TIME)[None, :] < jnp.asarray([13, 10])[:, None]
    reset = jnp.zeros((BATCH, TIME), bool).at[0, 6].set(True)

    def total(tokens, floats, form):
        first = memory._replace(**floats)
        read, after = form(
            tokens, first, segment_size=SEGMENT, write=write, reset=reset, valid=valid
        )
        read = jnp.where(valid[..., None, None], read, 0)
        leaves = [read, *after[:-1]]
        return sum(jnp.sum(jnp.sin(x)) for x in leaves), (read, after)

    floats = memory._asdict()
    floats.pop("position")
    run = jax.jit(jax.grad(total, (0, 1), has_aux=True), static_argnums=2)
    found = run(tokens_of(), floats, compressive_chunkwise)
    expected = run(tokens_of(), floats, compressive_recurrent)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("write", "share"), [("sum", 1.0), ("delta", 0.5), ("exact_delta", 1.0)]
)
def test_a_value_written_twice(write, share):
    """Published: the second write adds nothing to M but doubles z."""
    pair = jax.tree.map(lambda x: x[:1, :1].astype(jnp.float32), tokens_of())
    token = CompressiveTokens(pair.key, pair.key, pair.value)
    twice = jax.tree.map(lambda x: jnp.concatenate([x, x, x], axis=1), token)
    memory = new_compressive_memory(1, HEADS, KEY, VALUE)
    run = jax.jit(partial(compressive_recurrent, segment_size=1, write=write))
    read, _ = run(twice, memory)
    np.testing.assert_allclose(read[0, 1], pair.value[0, 0], rtol=1e-4)
    np.testing.assert_allclose(read[0, 2], share * pair.value[0, 0], rtol=1e-4)
