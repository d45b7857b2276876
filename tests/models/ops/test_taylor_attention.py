"""Linear attention through the Taylor map, chunk by chunk."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.feature_maps import taylor, taylor_size
from memzoo.models.ops.taylor_attention import (
    taylor_attention_chunkwise,
    taylor_attention_recurrent,
    taylor_attention_step,
    taylor_attention_write,
)


@pytest.fixture
def inputs(make_inputs):
    def make(time, **options):
        made = make_inputs(time, decay="none", **options)
        del made["log_decay"]
        shape = list(made["memory"].shape)
        shape[2] = taylor_size(made["k"].shape[-1])
        rng = np.random.default_rng(5)
        return made | {"memory": jnp.asarray(rng.standard_normal(shape))}

    return make


@pytest.mark.parametrize(
    ("time", "chunk_size", "form"),
    [
        (1, 16, "scan"),
        (15, 16, "scan"),
        (17, 16, "scan"),
        (37, 7, "scan"),
        (37, None, "auto"),
        (17, 16, "parallel"),
    ],
)
def test_chunkwise_equals_recurrent(
    x64, inputs, make_reset, assert_same, time, chunk_size, form
):
    assert_same(
        taylor_attention_recurrent,
        taylor_attention_chunkwise,
        inputs(time),
        make_reset("inside", time),
        chunk_size=chunk_size,
        form=form,
    )


@pytest.mark.parametrize(
    "kind",
    ["none", "never", "start", "end", "edge", "inside", "consecutive", "everywhere"],
)
def test_chunkwise_equals_recurrent_with_resets(
    x64, inputs, make_reset, assert_same, kind
):
    assert_same(
        taylor_attention_recurrent,
        taylor_attention_chunkwise,
        inputs(37, keys="repeated"),
        make_reset(kind, 37),
        chunk_size=16,
        form="scan",
    )


def test_it_is_quadratic_attention_by_the_kernel(x64, inputs):
    """Anchored to 1 + s + s^2 / 2, with no feature map at all."""
    arrays = inputs(37)
    arrays["memory"] = jnp.zeros_like(arrays["memory"])
    o, _ = taylor_attention_chunkwise(**arrays, chunk_size=16, form="scan")
    q, k, v = (np.asarray(arrays[name]) for name in ("q", "k", "v"))
    s = np.einsum("bthk,bshk->bhts", q, k)
    scores = np.tril(1 + s + s**2 / 2)
    expected = np.einsum("bhts,bshv->bthv", scores, v)
    np.testing.assert_allclose(o, expected, rtol=1e-9, atol=1e-9)


def test_a_token_without_a_value_changes_nothing(x64, inputs):
    arrays = inputs(20)
    hidden = jnp.arange(20)[None, :, None, None] >= 13
    arrays["v"] = jnp.where(hidden, 0, arrays["v"])
    short = {n: x if n == "memory" else x[:, :13] for n, x in arrays.items()}
    run = partial(taylor_attention_chunkwise, chunk_size=8, form="scan")
    (o, memory), (wanted, after) = run(**arrays), run(**short)
    np.testing.assert_allclose(o[:, :13], wanted, rtol=1e-12)
    np.testing.assert_allclose(memory, after, rtol=1e-12)


@pytest.mark.parametrize("form", ["scan", "parallel"])
def test_writing_alone_leaves_the_same_memory(x64, inputs, assert_same, form):
    def both(write):
        def run(k, v, memory, reset=None):
            return v, write(k, v, memory)

        return run

    def written(k, v, memory):
        return taylor_attention_recurrent(k, k, v, memory)[1]

    arrays = inputs(70)
    del arrays["q"]
    fast = partial(taylor_attention_write, form=form)
    assert_same(both(written), both(fast), arrays)


def test_a_step_is_one_token(x64, inputs):
    arrays = inputs(1)
    o, memory = taylor_attention_recurrent(**arrays)
    one = {n: x if n == "memory" else x[:, 0] for n, x in arrays.items()}
    y, after = taylor_attention_step(**one)
    np.testing.assert_allclose(y, o[:, 0], rtol=1e-12)
    np.testing.assert_allclose(after, memory, rtol=1e-12)
    write = jnp.einsum("bhf,bhv->bhfv", taylor(one["k"]), one["v"])
    np.testing.assert_allclose(after, one["memory"] + write, rtol=1e-12)


def test_the_memory_sums_in_its_own_type(inputs):
    arrays = {
        n: x.astype(jnp.float32 if n == "memory" else jnp.bfloat16)
        for n, x in inputs(20).items()
    }
    o, memory = taylor_attention_chunkwise(**arrays, chunk_size=8, form="scan")
    assert (o.dtype, memory.dtype) == (jnp.bfloat16, jnp.float32)
    wanted, _ = taylor_attention_recurrent(**arrays)
    np.testing.assert_allclose(
        o.astype(jnp.float32), wanted.astype(jnp.float32), rtol=0.1, atol=0.3
    )
