"""TTT against its authors' code, rewritten in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.interface import Layout
from memzoo.models.ttt_linear import TTTLinearConfig
from memzoo.models.ttt_mlp import TTTMLPConfig

WIDTH, HEADS, SIZE, EVERY, TIME = 12, 2, 6, 4, 11


def built(config):
    layer = config.build(WIDTH, nnx.Rngs(0), layer_index=0, depth=2)
    _, params = nnx.split(layer)
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(0)
    noisy = [leaf + 0.1 * rng.standard_normal(leaf.shape) for leaf in leaves]
    noisy = [leaf.astype(jnp.float32) for leaf in noisy]
    nnx.update(layer, jax.tree.unflatten(tree, noisy))
    return layer


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def standard(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def turned(x, place):
    half = x.shape[-1] // 2
    angle = place * 10000.0 ** (-np.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    c, s = np.cos(angle), np.sin(angle)
    return np.concatenate([a * c - b * s, b * c + a * s], -1)


def convolved(x, module):
    kernel, bias = np.asarray(module.kernel[...]), np.asarray(module.bias[...])
    padded = np.concatenate([np.zeros((len(kernel) - 1, x.shape[1])), x])
    taps = [padded[i : i + len(x)] * kernel[i] for i in range(len(kernel))]
    return sum(taps) + bias


def by_hand(layer, x, base):
    """Compute one row, t d, in the primal form: weights after every token."""
    kernel = lambda name: np.asarray(getattr(layer, name).kernel[...])  # noqa: E731
    query = x @ kernel("query")
    q, k = (
        convolved(query, m) for m in (layer.query.convolution, layer.key.convolution)
    )
    v = x @ kernel("value")
    rate = x @ kernel("learning_rate") + np.asarray(layer.learning_rate.bias[...])
    rate = base / (1 + np.exp(-rate)) / SIZE
    scale = np.maximum(
        1 / np.arange(1, EVERY + 1) + np.asarray(layer.step_scale[...]), 0
    )
    out = np.zeros((TIME, HEADS, SIZE))
    for h in range(HEADS):
        cut = slice(h * SIZE, (h + 1) * SIZE)
        gamma, beta = (
            np.asarray(layer.memory_norm[n][...])[h] for n in ("norm", "norm_bias")
        )
        weights = {n: jnp.asarray(w[...])[h] for n, w in layer.initial.items()}

        def f(weights, x):
            x = x @ weights["kernel_0"] + weights["kernel_0_bias"]
            if "kernel_1" in weights:
                x = jax.nn.gelu(x) @ weights["kernel_1"] + weights["kernel_1_bias"]
            x = (x - x.mean()) / jnp.sqrt(x.var() + 1e-6)
            return x * gamma + beta  # noqa: B023

        def loss(weights, k, v):
            return 0.5 * jnp.sum((f(weights, k) - (v - k)) ** 2)

        slope = jax.jit(jax.grad(loss))
        for t in range(TIME):
            if t % EVERY == 0:
                anchor = weights
                total = jax.tree.map(jnp.zeros_like, weights)
            qt, kt = (turned(a[t, cut], t % EVERY) for a in (q, k))
            g = slope(anchor, jnp.asarray(kt), jnp.asarray(v[t, cut]))
            total = jax.tree.map(lambda a, b: a + rate[t, h] * b, total, g)  # noqa: B023
            step = scale[t % EVERY]
            weights = jax.tree.map(lambda a, b: a - step * b, anchor, total)  # noqa: B023
            out[t, h] = qt + np.asarray(f(weights, jnp.asarray(qt)))
    y = standard(out.reshape(TIME, -1))
    out = layer.read_out
    y = y * np.asarray(out.norm.scale[...]) + np.asarray(out.norm.bias[...])
    gate, last = (np.asarray(m.kernel[...]) for m in (out.gate, out.projection))
    return (y * gelu(x @ gate)) @ last


@pytest.mark.parametrize("kind", [TTTLinearConfig, TTTMLPConfig])
def test_the_published_code_by_hand(kind):
    config = kind(num_heads=HEADS, update_every=EVERY)
    layer = built(config)
    x = np.random.default_rng(1).standard_normal((TIME, WIDTH)).astype(np.float32)
    run = jax.jit(lambda x, state: layer.sequence(x, state, Layout()))
    y, _ = run(jnp.asarray(x)[None], layer.init_state(1, 0))
    with jax.numpy_rank_promotion("allow"):
        expected = by_hand(layer, x, config.base_learning_rate)
    np.testing.assert_allclose(y[0], expected, rtol=1e-3, atol=1e-4)


def test_the_transformer_backbone_has_neither_gate_nor_convolution():
    layer = TTTLinearConfig(backbone="transformer", num_heads=HEADS).build(
        WIDTH, nnx.Rngs(0), layer_index=0, depth=2
    )
    assert layer.read_out.gate is None
    assert layer.init_tails(1) == ()
    assert layer.key.kernel[...].shape == (WIDTH, WIDTH)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"num_heads": 0}, "num_heads is 0; give a number above 0"),
        ({"update_every": 0}, "update_every is 0; give a number above 0"),
        ({"base_learning_rate": -1.0}, "base_learning_rate is -1.0; give a number"),
        ({"rotary_base": 1.0}, "rotary_base is 1.0; give a finite number above 1"),
        ({"convolution_size": 1}, "convolution_size is 1; give 0"),
    ],
)
def test_what_cannot_work_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        TTTLinearConfig(**fields)


def test_an_odd_head_is_refused():
    with pytest.raises(ValueError, match="head_size is 3, which is odd"):
        TTTLinearConfig(head_size=3).build(8, nnx.Rngs(0), layer_index=0, depth=1)
