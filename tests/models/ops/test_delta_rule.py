from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.delta_rule import (
    delta_rule_chunkwise,
    delta_rule_recurrent,
    delta_rule_step,
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
    inputs = make_inputs(time, write_strength=1.0)
    reset = make_reset("inside", time)
    assert_same(
        delta_rule_recurrent,
        delta_rule_chunkwise,
        inputs,
        reset,
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
    inputs = make_inputs(37, write_strength=1.0)
    assert_same(
        delta_rule_recurrent,
        delta_rule_chunkwise,
        inputs,
        make_reset("inside", 37),
        chunk_size=chunk_size,
        form=form,
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("decay", ["mild", "strong", "mixed", "zero", "none"])
@pytest.mark.parametrize("keys", ["independent", "correlated", "repeated"])
@pytest.mark.parametrize("write_strength", [1.0, 2.0])
def test_chunkwise_equals_recurrent_on_hard_inputs(
    x64, make_inputs, assert_same, write_strength, keys, decay, form
):
    inputs = make_inputs(37, keys=keys, decay=decay, write_strength=write_strength)
    assert_same(
        delta_rule_recurrent, delta_rule_chunkwise, inputs, chunk_size=16, form=form
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("decay", ["mild", "none"])
@pytest.mark.parametrize(
    "kind", ["never", "start", "end", "edge", "inside", "consecutive", "everywhere"]
)
def test_chunkwise_equals_recurrent_with_resets_anywhere(
    x64, make_inputs, make_reset, assert_same, kind, decay, form
):
    inputs = make_inputs(37, write_strength=1.0, decay=decay)
    assert_same(
        delta_rule_recurrent,
        delta_rule_chunkwise,
        inputs,
        make_reset(kind, 37),
        chunk_size=16,
        form=form,
    )


def test_step_is_a_gradient_step_on_the_recall_loss(x64, make_inputs):
    inputs = make_inputs(1, write_strength=1.0)
    token = {name: inputs[name][:, 0] for name in ("q", "k", "v")}
    strength, log_decay = inputs["write_strength"][:, 0], inputs["log_decay"][:, 0]
    decayed = inputs["memory"] * np.exp(log_decay)[..., None, None]

    def loss(memory):
        recalled = jnp.einsum("bhkv,bhk->bhv", memory, token["k"])
        return 0.5 * jnp.sum((recalled - token["v"]) ** 2)

    expected = decayed - strength[..., None, None] * jax.grad(loss)(decayed)
    o, memory = delta_rule_step(
        **token, write_strength=strength, log_decay=log_decay, memory=inputs["memory"]
    )
    np.testing.assert_allclose(memory, expected, rtol=1e-12)
    read = np.einsum("bhkv,bhk->bhv", expected, token["q"])
    np.testing.assert_allclose(o, read, rtol=1e-12)


def test_recurrent_equals_a_loop_over_separate_documents(x64, make_inputs, make_reset):
    inputs = make_inputs(9, write_strength=1.0)
    reset = make_reset("inside", 9)
    o, memory = delta_rule_recurrent(**inputs, reset=reset)
    arrays = {name: np.asarray(x) for name, x in inputs.items()}
    for row in range(2):
        for head in range(2):
            state = arrays["memory"][row, head]
            for t in range(9):
                at = (row, t, head)
                if reset[row, t]:
                    state = np.zeros_like(state)
                state = state * np.exp(arrays["log_decay"][at])
                key, value = arrays["k"][at], arrays["v"][at]
                strength = arrays["write_strength"][at]
                state = state + strength * np.outer(key, value - key @ state)
                np.testing.assert_allclose(o[at], arrays["q"][at] @ state, rtol=1e-10)
            np.testing.assert_allclose(memory[row, head], state, rtol=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_packed_documents_equal_separate_runs(x64, make_inputs, form):
    inputs = make_inputs(37, write_strength=1.0)
    memory = inputs.pop("memory")
    start = np.arange(37)[None, :] == np.full((2, 1), 21)
    run = jax.jit(partial(delta_rule_chunkwise, chunk_size=16, form=form))
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


def _single(inputs, dtype=jnp.float32):
    return {
        name: x.astype(jnp.float32 if name == "memory" else dtype)
        for name, x in inputs.items()
    }


@pytest.mark.parametrize("form", FORMS)
def test_identity_tokens_leave_the_memory_bit_for_bit(make_inputs, jit_as_users, form):
    inputs = _single(make_inputs(16, write_strength=1.0))
    run = jit_as_users(partial(delta_rule_chunkwise, chunk_size=16, form=form))
    nothing = {
        name: jnp.zeros_like(x)
        for name, x in inputs.items()
        if name not in ("q", "memory")
    }
    _, memory = run(**{**inputs, **nothing})
    np.testing.assert_array_equal(memory, inputs["memory"])
    _, before = run(**inputs)
    doubled = {
        name: jnp.concatenate([inputs[name], nothing.get(name, inputs[name])], axis=1)
        for name in inputs
        if name != "memory"
    }
    _, after = run(**doubled, memory=inputs["memory"])
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("form", FORMS)
def test_outputs_do_not_depend_on_later_inputs_in_any_bit(
    make_inputs, make_reset, jit_as_users, assert_causal_in_every_bit, form
):
    inputs = _single(make_inputs(37, write_strength=1.0))
    other = _single(make_inputs(37, write_strength=2.0, decay="strong", seed=5))
    run = jit_as_users(partial(delta_rule_chunkwise, chunk_size=16, form=form))
    assert_causal_in_every_bit(run, inputs, other, make_reset("inside", 37))


@pytest.mark.parametrize("form", FORMS)
def test_no_digits_are_lost_after_a_strong_decay(x64, make_inputs, assert_digits, form):
    assert_digits(
        delta_rule_recurrent,
        delta_rule_chunkwise,
        make_inputs(50, write_strength=1.0),
        chunk_size=32,
        form=form,
    )


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_stays_close_to_float64(form):
    rng = np.random.default_rng(0)
    shape = (1, 128, 2, 16)
    q, k, v = (rng.standard_normal(shape) for _ in range(3))
    k = k / np.linalg.norm(k, axis=-1, keepdims=True)
    strength = 1 / (1 + np.exp(-rng.standard_normal(shape[:3])))
    log_decay = -np.logaddexp(0, -rng.standard_normal(shape[:3]))
    narrow = [jnp.asarray(x, jnp.bfloat16) for x in (q, k, v, strength, log_decay)]
    memory = jnp.zeros((1, 2, 16, 16), jnp.float32)
    run = jax.jit(partial(delta_rule_chunkwise, chunk_size=32, form=form))
    o, last = run(*narrow, memory)
    assert o.dtype == jnp.bfloat16 and last.dtype == jnp.float32
    with jax.enable_x64(True):
        wide = [jnp.asarray(np.asarray(x, np.float64)) for x in narrow]
        exact = delta_rule_recurrent(*wide, jnp.zeros((1, 2, 16, 16), jnp.float64))
    for found, wanted in zip((o, last), exact, strict=True):
        error = np.asarray(found, np.float64) - np.asarray(wanted)
        assert np.sqrt(np.mean(error**2) / np.mean(np.asarray(wanted) ** 2)) < 5e-3


@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_bfloat16_inputs_are_finite_and_of_their_type(form):
    inputs = _make_narrow()
    run = partial(delta_rule_chunkwise, chunk_size=16, form=form)

    def loss(inputs):
        o, memory = run(**inputs)
        return jnp.sum(o.astype(jnp.float32)) + jnp.sum(memory)

    gradient = jax.jit(jax.grad(loss))(inputs)
    for name, x in inputs.items():
        assert gradient[name].dtype == x.dtype, name
        assert jnp.all(jnp.isfinite(gradient[name])), name
        assert jnp.any(gradient[name] != 0), name


def _make_narrow():
    rng = np.random.default_rng(3)
    shape = (2, 37, 2, 6)
    k = rng.standard_normal(shape)
    return {
        "q": jnp.asarray(rng.standard_normal(shape), jnp.bfloat16),
        "k": jnp.asarray(k / np.linalg.norm(k, axis=-1, keepdims=True), jnp.bfloat16),
        "v": jnp.asarray(rng.standard_normal((2, 37, 2, 5)), jnp.bfloat16),
        "write_strength": jnp.asarray(rng.uniform(size=shape[:3]), jnp.float32),
        "log_decay": jnp.asarray(-rng.uniform(size=shape[:3]), jnp.float32),
        "memory": jnp.asarray(rng.standard_normal((2, 2, 6, 5)), jnp.float32),
    }


def test_an_empty_sequence_returns_the_memory(make_inputs):
    inputs = _single(make_inputs(0, write_strength=1.0))
    for form in FORMS:
        o, memory = delta_rule_chunkwise(**inputs, form=form)
        assert o.shape == (2, 0, 2, 5)
        np.testing.assert_array_equal(memory, inputs["memory"])


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
    inputs = make_inputs(18, write_strength=1.0, decay=decay)
    memories = np.random.default_rng(3).standard_normal((2, 4, 2, 6, 5))
    inputs["memory"] = jnp.asarray(memories)
    chunks = partial(
        delta_rule_chunkwise, which=jnp.asarray(WHICH), chunk_size=4, form=form
    )
    assert_same(
        one_memory_at_a_time(delta_rule_recurrent, WHICH, 4),
        chunks,
        inputs,
        make_reset(resets, 18),
    )
    _, after = jax.jit(chunks)(**inputs)
    np.testing.assert_array_equal(after[:, 1], memories[:, 1])
    np.testing.assert_array_equal(after[1, :3], memories[1, :3])


def test_every_chunk_needs_a_memory(make_inputs):
    inputs = make_inputs(18, write_strength=1.0)
    inputs["memory"] = inputs["memory"][:, None]
    with pytest.raises(ValueError, match="18 tokens in chunks of 9 are 2"):
        delta_rule_chunkwise(**inputs, which=jnp.zeros((2, 3), jnp.int32), chunk_size=9)
