"""Gradients from factors against automatic differentiation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.memory_network import MemoryNetwork, Plain
from memzoo.models.ops.neural_memory import (
    NeuralTokens,
    neural_memory_chunkwise,
    neural_memory_step,
)
from memzoo.models.ops.neural_memory_chunk import before_shift, gradient_factors
from memzoo.models.ops.write_rule import WriteRule, new_memory
from memzoo.models.ops.write_schedule import Gates

SIZES = {"key_size": 3, "value_size": 3, "hidden_size": 4}


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("loss", ["full", "half"])
def test_factors_multiply_to_every_tokens_gradient(x64, loss, clip):
    network = MemoryNetwork(depth=2, norm="fast", bias=True, residual=True, **SIZES)
    rng = np.random.default_rng(0)
    shapes = network.matrices() | {n: (s,) for n, s in network.vectors().items()}
    weights = {
        n: jnp.asarray(rng.standard_normal((1, 1, *s))) for n, s in shapes.items()
    }
    key, value = (jnp.asarray(rng.standard_normal((1, 1, 5, 3))) for _ in range(2))
    rule = WriteRule(loss=loss, clip=clip)
    factors = gradient_factors(network, weights, None, key, value, rule, jnp.float64)

    def one(weights, token):
        read = network(Plain(weights, None, jnp.float64), key[:, :, token, None])
        error = jnp.sum(jnp.square(read[:, :, 0] - value[:, :, token]))
        return error * (0.5 if loss == "half" else 1.0)

    for token in range(5):
        expected = jax.grad(one)(weights, token)
        norm = np.sqrt(sum(np.square(u).sum() for u in expected.values()))
        share = 1.0 if clip is None else min(1.0, clip / norm)
        for name, u in expected.items():
            left = factors.left[before_shift(name)][0, 0, token]
            if u.ndim == 4:
                actual = jnp.outer(factors.entered[name][0, 0, token], left)
            elif name == before_shift(name):
                actual = factors.entered[name][0, 0, token] * left
            else:
                actual = left
            np.testing.assert_allclose(actual, share * u[0, 0], rtol=1e-9, atol=1e-12)


def test_a_shift_follows_its_matrix():
    assert before_shift("kernel_1_bias") == "kernel_1"
    assert before_shift("norm_bias") == "norm"
    assert before_shift("gate") == "gate"


def test_a_chunk_of_no_tokens_is_refused():
    network, rule = MemoryNetwork(depth=1, **SIZES), WriteRule()
    heads = jnp.zeros((1, 2, 1, 3))
    weights = {"kernel_0": jnp.zeros((1, 1, 3, 3))}
    memory = new_memory(weights, network, rule, momentum=False)
    with pytest.raises(ValueError, match="chunk_size is 0; give at least 1"):
        neural_memory_chunkwise(
            NeuralTokens(heads, heads, heads, Gates(jnp.ones((1, 2, 1)))), memory,
            network=network, rule=rule, chunk_size=0,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("chunk_size", "schedule"), [(None, "titans"), (2, "titans"), (None, "window")]
)
def test_a_memory_that_is_not_carried_reads_the_same(x64, chunk_size, schedule):
    """Document starts do not need an anchor either."""
    network = MemoryNetwork(depth=2, **SIZES)
    rule = WriteRule(update_every=4, schedule=schedule)
    rng = np.random.default_rng(0)
    weights = {
        n: jnp.asarray(rng.standard_normal((2, 1, *s)))
        for n, s in network.matrices().items()
    }
    q, k, v = (jnp.asarray(0.3 * rng.standard_normal((2, 10, 1, 3))) for _ in range(3))
    gates = Gates(*(jnp.asarray(rng.uniform(0, 0.5, (2, 10, 1))) for _ in range(4)))
    if schedule == "titans":
        gates = gates._replace(step_scale=None)
    reset = jnp.zeros((2, 10), bool).at[1, 3].set(True)

    def run(carried, reset):
        new = partial(new_memory, weights, network, rule, momentum=True)
        return jax.jit(
            lambda: neural_memory_chunkwise(
                NeuralTokens(q, k, v, gates),
                new(carried=carried),
                network=network,
                rule=rule,
                initial=new(),
                reset=reset,
                chunk_size=chunk_size,
            )
        )()

    for documents in (None, reset):
        one, first = run(True, documents)
        two, second = run(False, documents)
        np.testing.assert_allclose(two, one, rtol=1e-12)
        for name, weight in first.weights.items():
            np.testing.assert_allclose(second.weights[name], weight, rtol=1e-12)


def test_a_memory_that_is_not_carried_takes_no_step():
    network, rule = MemoryNetwork(depth=1, **SIZES), WriteRule(update_every=2)
    heads = jnp.zeros((1, 1, 3))
    weights = {"kernel_0": jnp.zeros((1, 1, 3, 3))}
    memory = new_memory(weights, network, rule, momentum=False, carried=False)
    with pytest.raises(ValueError, match="give max_length=1 or more to"):
        neural_memory_step(
            NeuralTokens(heads, heads, heads, Gates(jnp.ones((1, 1)))), memory,
            network=network, rule=rule,
        )  # fmt: skip
