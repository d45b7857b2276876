from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.scalar_decay import (
    scalar_decay_chunkwise,
    scalar_decay_recurrent,
    scalar_decay_step,
)

FORMS = ("scan", "parallel")


@pytest.mark.parametrize(
    ("time", "form"),
    [
        (1, "scan"),
        pytest.param(15, "scan", marks=pytest.mark.slow),
        pytest.param(16, "scan", marks=pytest.mark.slow),
        (17, "scan"),
        (17, "parallel"),
    ],
)
def test_chunkwise_equals_recurrent_at_awkward_lengths(
    x64, make_inputs, make_reset, assert_same, time, form
):
    assert_same(
        scalar_decay_recurrent,
        scalar_decay_chunkwise,
        make_inputs(time),
        make_reset("inside", time),
        chunk_size=16,
        form=form,
    )


@pytest.mark.parametrize(
    ("chunk_size", "form"),
    [
        pytest.param(1, "scan", marks=pytest.mark.slow),
        (7, "scan"),
        pytest.param(64, "scan", marks=pytest.mark.slow),
        (None, "auto"),
        pytest.param(64, "parallel", marks=pytest.mark.slow),
    ],
)
def test_chunk_size_does_not_change_the_result(
    x64, make_inputs, make_reset, assert_same, chunk_size, form
):
    assert_same(
        scalar_decay_recurrent,
        scalar_decay_chunkwise,
        make_inputs(37),
        make_reset("inside", 37),
        chunk_size=chunk_size,
        form=form,
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("decay", ["mild", "strong", "mixed", "zero", "none"])
@pytest.mark.parametrize(
    "kind",
    ["none", "never", "start", "end", "edge", "inside", "consecutive", "everywhere"],
)
def test_chunkwise_equals_recurrent_with_resets_and_decays(
    x64, make_inputs, make_reset, assert_same, kind, decay, form
):
    assert_same(
        scalar_decay_recurrent,
        scalar_decay_chunkwise,
        make_inputs(37, decay=decay),
        make_reset(kind, 37),
        chunk_size=16,
        form=form,
    )


@pytest.mark.parametrize("form", FORMS)
def test_no_decay_is_masked_quadratic_attention(x64, make_inputs, form):
    inputs = make_inputs(37, decay="none")
    inputs["memory"] = jnp.zeros_like(inputs["memory"])
    o, memory = scalar_decay_chunkwise(**inputs, chunk_size=16, form=form)
    q, k, v = (np.asarray(inputs[name]) for name in ("q", "k", "v"))
    scores = np.tril(np.einsum("bthk,bshk->bhts", q, k))
    expected = np.einsum("bhts,bshv->bthv", scores, v)
    np.testing.assert_allclose(o, expected, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(memory, np.einsum("bshk,bshv->bhkv", k, v), rtol=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_a_column_of_ones_carries_the_normaliser(x64, make_inputs, form):
    inputs = make_inputs(37, decay="none")
    q, k = jnp.exp(inputs["q"]), jnp.exp(inputs["k"])
    v = jnp.concatenate([inputs["v"], jnp.ones_like(inputs["v"][..., :2])], axis=-1)
    assert v.shape[-1] == q.shape[-1] + 1
    memory = jnp.zeros((2, 2, 6, 7))
    o, _ = scalar_decay_chunkwise(q, k, v, None, memory, chunk_size=16, form=form)
    scores = np.tril(np.einsum("bthk,bshk->bhts", q, k))
    total = np.moveaxis(np.sum(scores, axis=-1), 1, 2)
    np.testing.assert_allclose(o[..., -1], total, rtol=1e-9)


def test_constant_decay_has_its_closed_form(x64, make_inputs):
    inputs = make_inputs(9)
    rate = np.log([0.9, 0.5])
    inputs["log_decay"] = jnp.broadcast_to(jnp.asarray(rate), (2, 9, 2))
    o, _ = scalar_decay_chunkwise(**inputs, chunk_size=4)
    arrays = {name: np.asarray(x) for name, x in inputs.items()}
    for t in range(9):
        left = np.exp(rate * (t + 1))[None, :, None, None] * arrays["memory"]
        for s in range(t + 1):
            write = np.einsum("bhk,bhv->bhkv", arrays["k"][:, s], arrays["v"][:, s])
            left = left + np.exp(rate * (t - s))[None, :, None, None] * write
        expected = np.einsum("bhk,bhkv->bhv", arrays["q"][:, t], left)
        np.testing.assert_allclose(o[:, t], expected, rtol=1e-9)


def test_recurrent_equals_a_loop(x64, make_inputs, make_reset):
    inputs = make_inputs(9)
    reset = make_reset("inside", 9)
    o, memory = scalar_decay_recurrent(**inputs, reset=reset)
    arrays = {name: np.asarray(x) for name, x in inputs.items()}
    for row in range(2):
        for head in range(2):
            state = arrays["memory"][row, head]
            for t in range(9):
                at = (row, t, head)
                state = np.zeros_like(state) if reset[row, t] else state
                state = state * np.exp(arrays["log_decay"][at])
                state = state + np.outer(arrays["k"][at], arrays["v"][at])
                np.testing.assert_allclose(o[at], arrays["q"][at] @ state, rtol=1e-10)
            np.testing.assert_allclose(memory[row, head], state, rtol=1e-10)


def test_steps_equal_the_sequence(x64, make_inputs):
    inputs = make_inputs(3, decay="none")
    o, last = scalar_decay_chunkwise(**inputs)
    memory = inputs.pop("memory")
    del inputs["log_decay"]
    for t in range(3):
        token = {name: x[:, t] for name, x in inputs.items()}
        read, memory = scalar_decay_step(**token, log_decay=None, memory=memory)
        np.testing.assert_allclose(read, o[:, t], rtol=1e-10)
    np.testing.assert_allclose(memory, last, rtol=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_packed_documents_equal_separate_runs(x64, make_inputs, form):
    inputs = make_inputs(37)
    memory = inputs.pop("memory")
    start = np.arange(37)[None, :] == np.full((2, 1), 21)
    run = jax.jit(partial(scalar_decay_chunkwise, chunk_size=16, form=form))
    packed, last = run(**inputs, memory=memory, reset=start)
    first, second = (
        {name: np.asarray(x)[:, part] for name, x in inputs.items()}
        for part in (np.s_[:21], np.s_[21:])
    )
    o, _ = run(**first, memory=memory)
    np.testing.assert_allclose(packed[:, :21], o, rtol=1e-9, atol=1e-12)
    o, alone = run(**second, memory=jnp.zeros_like(memory))
    np.testing.assert_allclose(packed[:, 21:], o, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(last, alone, rtol=1e-9, atol=1e-12)


def _single(inputs):
    return {name: x.astype(jnp.float32) for name, x in inputs.items()}


@pytest.mark.parametrize("form", FORMS)
def test_identity_tokens_leave_the_memory_bit_for_bit(make_inputs, jit_as_users, form):
    inputs = _single(make_inputs(16))
    run = jit_as_users(partial(scalar_decay_chunkwise, chunk_size=16, form=form))
    nothing = {name: jnp.zeros_like(inputs[name]) for name in ("k", "v", "log_decay")}
    _, memory = run(**{**inputs, **nothing})
    np.testing.assert_array_equal(memory, inputs["memory"])
    _, before = run(**inputs)
    doubled = {
        name: jnp.concatenate([x, nothing.get(name, x)], axis=1)
        for name, x in inputs.items()
        if name != "memory"
    }
    _, after = run(**doubled, memory=inputs["memory"])
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("form", FORMS)
def test_outputs_do_not_depend_on_later_inputs_in_any_bit(
    make_inputs, make_reset, jit_as_users, assert_causal_in_every_bit, form
):
    inputs = _single(make_inputs(37))
    other = _single(make_inputs(37, decay="strong", seed=5))
    run = jit_as_users(partial(scalar_decay_chunkwise, chunk_size=16, form=form))
    assert_causal_in_every_bit(run, inputs, other, make_reset("inside", 37))


@pytest.mark.parametrize("form", FORMS)
def test_no_digits_are_lost_after_a_strong_decay(x64, make_inputs, assert_digits, form):
    assert_digits(
        scalar_decay_recurrent,
        scalar_decay_chunkwise,
        make_inputs(50),
        chunk_size=32,
        form=form,
    )


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_stays_close_to_float64(form):
    rng = np.random.default_rng(0)
    shape = (1, 128, 2, 16)
    q, k, v = (jnp.asarray(rng.standard_normal(shape), jnp.bfloat16) for _ in range(3))
    log_decay = jnp.asarray(-0.1 * rng.uniform(size=shape[:3]), jnp.float32)
    memory = jnp.zeros((1, 2, 16, 16), jnp.float32)

    def run(*inputs):
        return scalar_decay_chunkwise(*inputs, chunk_size=32, form=form)

    o, last = jax.jit(run)(q, k, v, log_decay, memory)
    assert o.dtype == jnp.bfloat16 and last.dtype == jnp.float32
    gradient = jax.jit(
        jax.grad(lambda *x: jnp.sum(run(*x)[0].astype(jnp.float32)), range(5))
    )(q, k, v, log_decay, memory)
    for found, given in zip(gradient, (q, k, v, log_decay, memory), strict=True):
        assert found.dtype == given.dtype
        assert jnp.all(jnp.isfinite(found)) and jnp.any(found != 0)
    with jax.enable_x64(True):
        wide = [jnp.asarray(np.asarray(x, np.float64)) for x in (q, k, v, log_decay)]
        exact = scalar_decay_recurrent(*wide, jnp.zeros((1, 2, 16, 16), jnp.float64))
    for found, wanted in zip((o, last), exact, strict=True):
        error = np.asarray(found, np.float64) - np.asarray(wanted)
        assert np.sqrt(np.mean(error**2) / np.mean(np.asarray(wanted) ** 2)) < 5e-3


WHICH = np.array([[0, 2, 2, 0, 3], [3, 3, 3, 3, 3]])


@pytest.mark.parametrize(
    ("decay", "resets"),
    [
        ("mild", "inside"),
        pytest.param("none", "none", marks=pytest.mark.slow),
        pytest.param("mild", "none", marks=pytest.mark.slow),
        pytest.param("none", "inside", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_each_chunk_has_the_memory_that_it_names(
    x64, make_inputs, make_reset, assert_same, one_memory_at_a_time, form, decay, resets
):
    inputs = make_inputs(18, decay=decay)
    memories = np.random.default_rng(3).standard_normal((2, 4, 2, 6, 5))
    inputs["memory"] = jnp.asarray(memories)
    chunks = partial(
        scalar_decay_chunkwise, which=jnp.asarray(WHICH), chunk_size=4, form=form
    )
    assert_same(
        one_memory_at_a_time(scalar_decay_recurrent, WHICH, 4),
        chunks,
        inputs,
        make_reset(resets, 18),
    )
    _, after = jax.jit(chunks)(**inputs)
    np.testing.assert_array_equal(after[:, 1], memories[:, 1])
    np.testing.assert_array_equal(after[1, :3], memories[1, :3])


def test_every_chunk_needs_a_memory(make_inputs):
    inputs = make_inputs(18)
    inputs["memory"] = inputs["memory"][:, None]
    with pytest.raises(ValueError, match="18 tokens in chunks of 9 are 2"):
        scalar_decay_chunkwise(
            **inputs, which=jnp.zeros((2, 3), jnp.int32), chunk_size=9
        )
