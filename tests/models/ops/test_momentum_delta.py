"""Anchors and laws of the delta rule with momentum."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.delta_rule import DELTA_RULE, DeltaTokens
from memzoo.models.ops.memory_network import MemoryNetwork
from memzoo.models.ops.momentum_delta import (
    MOMENTUM_DELTA,
    MomentumDeltaTokens,
    MomentumMemory,
    momentum_delta_rule,
)
from memzoo.models.ops.neural_memory import NeuralTokens, neural_memory_chunkwise
from memzoo.models.ops.write_rule import WriteRule, new_memory
from memzoo.models.ops.write_schedule import Gates


@pytest.fixture
def make(make_tokens):
    return lambda time, **kinds: make_tokens(
        MomentumDeltaTokens, MomentumMemory((6, 5), (6, 5)), time, **kinds
    )


def test_the_reference_equals_a_loop_over_separate_documents(x64, make, make_reset):
    tokens, before = make(9)
    reset = make_reset("inside", 9)
    o, after = MOMENTUM_DELTA.recurrent(tokens, before, reset=reset)
    q, k, v, e, b, log_m, log_a = jax.tree.map(np.asarray, tokens)
    for row, head in np.ndindex(2, 2):
        state, momentum = (np.asarray(x[row, head]) for x in before)
        for t in range(9):
            at = (row, t, head)
            if reset[row, t]:
                state, momentum = np.zeros_like(state), np.zeros_like(state)
            error = v[at] - state.T @ e[at]
            momentum = np.exp(log_m[at]) * momentum + np.outer(k[at], error)
            state = np.exp(log_a[at]) * state + b[at] * momentum
            np.testing.assert_allclose(o[at], q[at] @ state, rtol=1e-10)
        np.testing.assert_allclose(after.memory[row, head], state, rtol=1e-10)
        np.testing.assert_allclose(after.momentum[row, head], momentum, rtol=1e-10)


def test_a_step_is_gradient_descent_with_momentum(x64, make):
    """M = m M - eta grad 1/2 |S^T k - v|^2 at S, and S = a S + b M."""
    tokens, before = make(1)
    token = jax.tree.map(lambda x: x[:, 0], tokens)
    token = token._replace(key=0.3 * token.erase)

    def loss(memory):
        recalled = jnp.einsum("bhkv,bhk->bhv", memory, token.erase)
        return 0.5 * jnp.sum((recalled - token.value) ** 2)

    def by_head(x):
        return np.asarray(x)[..., None, None]

    gradient = jax.grad(loss)(before.memory)
    momentum = by_head(np.exp(token.log_momentum)) * before.momentum - 0.3 * gradient
    wanted = by_head(np.exp(token.log_decay)) * before.memory
    wanted = wanted + by_head(token.write_strength) * momentum
    _, after = MOMENTUM_DELTA.step(token, before)
    np.testing.assert_allclose(after.momentum, momentum, rtol=1e-12)
    np.testing.assert_allclose(after.memory, wanted, rtol=1e-12)


@pytest.mark.parametrize(
    "decay", ["mixed", pytest.param("none", marks=pytest.mark.slow)]
)
def test_the_fast_forms_equal_the_reference(x64, make, make_reset, assert_forms, decay):
    tokens, memory = make(19, keys="correlated", decay=decay)
    assert_forms(MOMENTUM_DELTA, tokens, memory, make_reset("inside", 19))


def test_without_momentum_it_is_the_delta_rule(x64, make):
    """Erasing keys are multiplied by the decay: the delta rule reads what is left."""
    tokens, before = make(19)
    key = tokens.erase
    decay = jnp.exp(tokens.log_decay)
    found, after = momentum_delta_rule(
        tokens.query,
        key,
        tokens.value,
        erase=decay[..., None] * key,
        write_strength=tokens.write_strength,
        log_momentum=jnp.full(decay.shape, -jnp.inf),
        log_decay=tokens.log_decay,
        memory=before,
        chunk_size=8,
    )
    plain = DeltaTokens(
        tokens.query, key, tokens.value, tokens.write_strength, tokens.log_decay
    )
    wanted, last = DELTA_RULE.recurrent(plain, before.memory)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(after.memory, last, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("loss", "share"), [("half", 1.0), ("full", 2.0)])
def test_it_is_titans_with_a_linear_memory_and_one_token_a_window(
    x64, make, loss, share
):
    """With b = 1, erasing keys that do not decay, and Titans' 1 - alpha and eta."""
    tokens, before = make(9)
    key, step = tokens.erase, 0.3 * tokens.write_strength
    gates = Gates(
        learning_rate=step / share,
        momentum=jnp.exp(tokens.log_momentum),
        forget=-jnp.expm1(tokens.log_decay),
    )
    network = MemoryNetwork(
        kind="mlp", key_size=6, value_size=5, hidden_size=6, depth=1
    )
    rule = WriteRule(update_every=1, loss=loss)
    (name,) = network.matrices()
    held = new_memory({name: before.memory}, network, rule, momentum=True)
    held = held._replace(momentum={name: before.momentum})
    wanted, after = jax.jit(
        lambda tokens, memory: neural_memory_chunkwise(
            tokens, memory, network=network, rule=rule
        )
    )(NeuralTokens(tokens.query, key, tokens.value, gates), held)
    found, last = MOMENTUM_DELTA.chunkwise(
        tokens._replace(
            key=step[..., None] * key, write_strength=jnp.ones_like(step), erase=key
        ),
        before,
        chunk_size=4,
    )
    near = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-11)
    near(found, wanted)
    near(last.memory, after.weights[name])
    near(last.momentum, after.momentum[name])


def test_every_array_of_the_memory_is_checked(make):
    tokens, memory = make(3)
    memory = memory._replace(momentum=memory.momentum[:, :, :4])
    with pytest.raises(ValueError, match=r"axis k is 4 in memory\.momentum .* query"):
        MOMENTUM_DELTA.chunkwise(tokens, memory)
