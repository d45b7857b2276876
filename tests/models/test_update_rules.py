"""The two forms of each rule are one map, which is the rule's equation."""

import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.memory_inputs import MemoryInputs
from memzoo.models.update_rules import DELTA, SCALAR_DECAY

BATCH, TIME, HEADS, KEY, VALUE = 2, 5, 2, 3, 4


def _inputs(decays, strengths):
    rng = np.random.default_rng(0)

    def draw(*sizes):
        return jnp.asarray(rng.standard_normal((BATCH, TIME, HEADS, *sizes)))

    return MemoryInputs(
        draw(KEY),
        draw(KEY) / 3,
        draw(VALUE),
        jnp.abs(draw()) if strengths else None,
        -jnp.abs(draw()) if decays else None,
    )


def _loop(inputs, memory, reset):
    q, k, v, strength, decay, _ = (None if a is None else np.asarray(a) for a in inputs)
    memory, outputs = np.array(memory), np.zeros((BATCH, TIME, HEADS, VALUE))
    for b, t, h in np.ndindex(BATCH, TIME, HEADS):
        if reset is not None and reset[b, t]:
            memory[b, h] = 0
        if decay is not None:
            memory[b, h] *= np.exp(decay[b, t, h])
        write = v[b, t, h]
        if strength is not None:
            write = strength[b, t, h] * (write - memory[b, h].T @ k[b, t, h])
        memory[b, h] += np.outer(k[b, t, h], write)
        outputs[b, t, h] = memory[b, h].T @ q[b, t, h]
    return outputs, memory


@pytest.mark.parametrize("decays", [True, False])
@pytest.mark.parametrize("rule", [SCALAR_DECAY, DELTA], ids=["scalar decay", "delta"])
def test_both_forms_are_the_equation(x64, rule, decays):
    inputs = _inputs(decays, strengths=rule is DELTA)
    memory = jnp.asarray(
        np.random.default_rng(1).standard_normal((BATCH, HEADS, KEY, VALUE))
    )
    reset = np.zeros((BATCH, TIME), bool)
    reset[0, 2] = reset[1, 3] = True
    read, after = rule.sequence(inputs, memory, jnp.asarray(reset), 2)
    wanted, last = _loop(inputs, memory, reset)
    np.testing.assert_allclose(read, wanted, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(after, last, rtol=1e-9, atol=1e-12)

    first = MemoryInputs(*(None if a is None else a[:, :1] for a in inputs))
    read, after = rule.token(first, memory)
    assert read.shape == (BATCH, 1, HEADS, VALUE)
    whole, _ = rule.sequence(inputs, memory, None, None)
    np.testing.assert_allclose(read, whole[:, :1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        after, rule.sequence(first, memory, None, None)[1], rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("decays", [True, False])
@pytest.mark.parametrize("rule", [SCALAR_DECAY, DELTA], ids=["scalar decay", "delta"])
def test_writing_alone_leaves_the_same_memory(x64, rule, decays):
    inputs = _inputs(decays, strengths=rule is DELTA)
    memory = jnp.ones((BATCH, HEADS, KEY, VALUE), jnp.float64)
    _, wanted = _loop(inputs, memory, None)
    after = rule.write(inputs, memory, 2)
    np.testing.assert_allclose(after, wanted, rtol=1e-9, atol=1e-12)


def test_the_delta_rule_needs_a_write_strength():
    inputs = _inputs(decays=False, strengths=False)
    memory = jnp.zeros((BATCH, HEADS, KEY, VALUE))
    for run in (
        lambda: DELTA.sequence(inputs, memory, None, None),
        lambda: DELTA.token(inputs, memory),
    ):
        with pytest.raises(ValueError, match="the delta rule needs a write strength"):
            run()
