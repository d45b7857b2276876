"""The chain of levels against a plain loop, and against the long-term memory."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.continuum_memory import ContinuumMemoryConfig
from memzoo.models.ops.memory_network import MemoryNetwork
from memzoo.models.ops.neural_memory import NeuralTokens, neural_memory_chunkwise
from memzoo.models.ops.write_rule import WriteRule, new_memory
from memzoo.models.ops.write_schedule import Gates
from memzoo.models.titans_lmm import TitansLMMConfig

CONFIG = ContinuumMemoryConfig(num_heads=2, memory_expansion=1, update_every=2)


def build(config):
    return config.build(8, nnx.Rngs(0), layer_index=0, depth=2)


def numpy_levels(q, k, v, theta, weights, update_every, ratio):
    """Run levels x + x W that sum their gradients and change at their window's end."""
    every = [update_every * ratio**level for level in range(len(weights))]
    sums, out = [np.zeros_like(w) for w in weights], []
    for t in range(len(q)):
        entered, error = [], k[t]
        for w in weights:
            entered.append(error)
            error = error + error @ w
        y = q[t]
        for w in weights:
            y = y + y @ w
        out.append(y)
        error = 2 * (error - v[t])
        for level in reversed(range(len(weights))):
            rate = theta[t] / ratio**level
            sums[level] = sums[level] + rate * np.outer(entered[level], error)
            error = error + weights[level] @ error
        for level, tokens in enumerate(every):
            if (t + 1) % tokens == 0:
                weights[level] = weights[level] - sums[level]
                sums[level] = np.zeros_like(sums[level])
    return np.stack(out), weights, sums


@pytest.mark.parametrize("update_every", [2, 99])
def test_levels_change_at_the_end_of_their_windows(x64, update_every):
    """With windows longer than the document the chain is static."""
    time, size, levels = 15, 3, 3
    network = MemoryNetwork(
        key_size=size, value_size=size, hidden_size=size,
        depth=1, residual=True, levels=levels,
    )  # fmt: skip
    rule = WriteRule(update_every=update_every, level_ratio=2, read="window")
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, 1, time, 1, size))
    theta = rng.uniform(0.0, 0.1, (1, time, 1))
    first = 0.3 * rng.standard_normal((levels, size, size))
    names = [f"level_{i}_kernel_0" for i in range(levels)]
    weights = {n: jnp.asarray(w)[None, None] for n, w in zip(names, first, strict=True)}
    memory = new_memory(weights, network, rule, momentum=False)
    run = jax.jit(neural_memory_chunkwise, static_argnames=("network", "rule"))
    gates = Gates(jnp.asarray(theta))
    tokens = NeuralTokens(jnp.asarray(q), jnp.asarray(k), jnp.asarray(v), gates)
    read, after = run(tokens, memory, network=network, rule=rule)
    out, anchors, sums = numpy_levels(
        q[0, :, 0], k[0, :, 0], v[0, :, 0], theta[0, :, 0], list(first), update_every, 2
    )
    np.testing.assert_allclose(read[0, :, 0], out, rtol=1e-10)
    for name, anchor, total in zip(names, anchors, sums, strict=True):
        running = anchor - total
        np.testing.assert_allclose(after.weights[name][0, 0], running, rtol=1e-9)
    if update_every == 99:
        fixed = q[0, :, 0]
        for w in first:
            fixed = fixed + fixed @ w
        np.testing.assert_allclose(read[0, :, 0], fixed, rtol=1e-12)


def test_one_level_is_the_long_term_memory():
    one = build(dataclasses.replace(CONFIG, levels=1, memory_residual=False))
    config = TitansLMMConfig(
        num_heads=2, memory_expansion=1, update_every=2, persistent_tokens=0,
        momentum=False, forget=False, read="window",
    )  # fmt: skip
    titans = build(config)
    assert (one.network, one.write_rule) == (titans.network, titans.write_rule)
    shapes = [
        jax.tree.map(jnp.shape, nnx.to_pure_dict(nnx.state(layer, nnx.Param)))
        for layer in (one, titans)
    ]
    assert shapes[0] == shapes[1]


def test_each_level_has_separate_weights():
    layer = build(CONFIG)
    assert layer.write_rule.windows_per_update("level_2_kernel_1") == 16
    names = {f"level_{i}_kernel_{j}" for i in range(3) for j in range(2)}
    assert set(layer.init_state(1, 8).memory.weights) == names


def test_a_read_uses_the_weights_of_the_open_windows():
    layer = build(dataclasses.replace(CONFIG, levels=2, level_ratio=2))
    memory = layer.init_memory(1)
    shifted = jax.tree.map(lambda w: w + 1, memory.weights)
    query = jnp.ones((1, 1, 2, 4))
    for position, renewed in ((1, ()), (2, ("level_0",)), (4, ("level_0", "level_1"))):
        now = memory._replace(weights=shifted, position=jnp.array([position]))
        expected = {
            n: shifted[n] if n.startswith(renewed) else w
            for n, w in memory.weights.items()
        } if renewed else memory.weights  # fmt: skip
        np.testing.assert_array_equal(
            layer.read(query, now), layer.read_weights(query, expected)
        )


@pytest.mark.parametrize("name", ["levels", "level_ratio"])
def test_what_cannot_work_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0; give a number above 0"):
        dataclasses.replace(CONFIG, **{name: 0})
