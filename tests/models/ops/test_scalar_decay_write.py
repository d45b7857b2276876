"""The last memory of linear attention, without its reads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.scalar_decay import scalar_decay_recurrent
from memzoo.models.ops.scalar_decay_write import scalar_decay_write


@pytest.mark.parametrize("decay", ["none", "mild", "strong", "mixed", "zero"])
def test_the_memory_and_its_gradients_are_those_of_the_recurrence(
    x64, make_inputs, decay
):
    inputs = make_inputs(37, decay=decay)
    q = inputs.pop("q")
    cotangent = jnp.asarray(
        np.random.default_rng(1).standard_normal(inputs["memory"].shape)
    )

    def recurrent(inputs):
        return scalar_decay_recurrent(q, **inputs)[1]

    def at_once(inputs):
        return scalar_decay_write(**inputs)

    @jax.jit
    def both(inputs):
        found = []
        for run in (recurrent, at_once):
            memory, pull = jax.vjp(run, inputs)
            found.append((memory, pull(cotangent)[0]))
        return found

    expected, found = both(inputs)
    for wanted, got in zip(*map(jax.tree.leaves, (expected, found)), strict=True):
        size = np.max(np.abs(wanted), initial=1e-3)
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9 * size)


def _last_of_recurrence(q, k, v, log_decay, memory, reset=None):
    memory = scalar_decay_recurrent(q, k, v, log_decay, memory, reset=reset)[1]
    return memory, memory


def _at_once(q, k, v, log_decay, memory, reset=None):
    del q, reset
    memory = scalar_decay_write(k, v, log_decay, memory)
    return memory, memory


def test_no_digits_are_lost_after_a_strong_decay(x64, make_inputs, assert_digits):
    assert_digits(_last_of_recurrence, _at_once, make_inputs(20))


def test_no_decay_is_a_sum_of_outer_products(x64, make_inputs):
    inputs = make_inputs(5, decay="none")
    del inputs["q"]
    k, v, memory = (np.asarray(inputs[name]) for name in ("k", "v", "memory"))
    for row, token, head in np.ndindex(2, 5, 2):
        memory = memory.copy()
        memory[row, head] += np.outer(k[row, token, head], v[row, token, head])
    np.testing.assert_allclose(scalar_decay_write(**inputs), memory, rtol=1e-12)


def test_nothing_written_leaves_the_memory_bit_for_bit(make_inputs):
    inputs = make_inputs(5, decay="none")
    del inputs["q"]
    inputs = {n: None if x is None else jnp.float32(x) for n, x in inputs.items()}
    inputs |= {name: jnp.zeros_like(inputs[name]) for name in ("k", "v")}
    np.testing.assert_array_equal(scalar_decay_write(**inputs), inputs["memory"])


def test_bfloat16_is_summed_in_float32(make_inputs):
    inputs = make_inputs(3)
    del inputs["q"]
    narrow = {
        name: x.astype(jnp.bfloat16 if name in ("k", "v") else jnp.float32)
        for name, x in inputs.items()
    }
    memory = scalar_decay_write(**narrow)
    assert memory.dtype == jnp.float32
    wide = scalar_decay_write(**{n: x.astype(jnp.float32) for n, x in narrow.items()})
    np.testing.assert_allclose(memory, wide, rtol=0.02, atol=0.02)
