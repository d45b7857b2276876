"""The two-rate memory against a plain loop, its token form, and titans_lmm."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.hmm_two_rate import HMMTwoRateConfig
from memzoo.models.memory_inputs import MemoryInputs
from memzoo.models.ops.neural_memory import NeuralTokens
from memzoo.models.ops.recurrence import scan_steps
from memzoo.models.ops.write_rule import weights_before_window
from memzoo.models.ops.write_schedule import Gates
from memzoo.models.titans_lmm import TitansLMMConfig

CONFIG = HMMTwoRateConfig(
    num_heads=2,
    memory_depth=1,
    update_every=2,
    slow_every=2,
    persistent_tokens=0,
    clip=None,
    chunk_size=4,
)
WIDTH, TIME = 6, 13


def wide(tree):
    return jax.tree.map(
        lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, tree
    )


def build(**fields):
    config = dataclasses.replace(CONFIG, **fields)
    return config.build(WIDTH, nnx.Rngs(0), layer_index=0, depth=2)


def tokens_of(seed=0):
    rng = np.random.default_rng(seed)
    q, k, v = rng.standard_normal((3, 2, TIME, 2, 3))
    q, k = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k))
    gates = rng.uniform(0.0, 0.4, (3, 2, TIME, 2))
    return jax.tree.map(jnp.asarray, NeuralTokens(q, k, v, Gates(*gates)))


def test_both_forms_are_equal_and_the_slow_memory_waits(x64):
    graphdef, params = nnx.split(build())
    params, tokens = wide(params), tokens_of()
    reset = jnp.zeros((2, TIME), bool).at[0, 5].set(True)
    valid = jnp.arange(TIME)[None, :] < jnp.asarray([13, 10])[:, None]
    mask = valid[..., None, None]

    def fast(layer, tokens, memory):
        inputs = MemoryInputs(tokens, valid=valid)
        read, memory = layer.write_and_read(inputs, memory, reset)
        return read, memory, None

    def slow(layer, tokens, memory):
        def step(token, memory):
            inputs = MemoryInputs(jax.tree.map(lambda x: x[:, None], token))
            read, memory = layer.write_and_read_token(inputs, memory)
            held = weights_before_window(memory.slow, layer.slow_rule)["kernel_0"]
            both = [read.reshape(2, 6), held.reshape(2, 18)]
            return jnp.concatenate(both, axis=1), memory

        both, memory = scan_steps(
            step,
            tokens,
            memory,
            initial=wide(layer.init_memory(2)),
            reset=reset,
            valid=valid,
        )
        return both[..., :6].reshape(2, TIME, 2, 3), memory, both[..., 6:]

    def total(params, tokens, form):
        layer = nnx.merge(graphdef, params, copy=True)
        # A window is open: the memory has read three tokens.
        first = jax.tree.map(lambda x: x[:, :3], tokens)
        memory = wide(layer.init_memory(2))
        _, memory = layer.write_and_read(MemoryInputs(first), memory, None)
        read, memory, held = form(layer, tokens, memory)
        read = jnp.where(mask, read, 0)
        floats = [x for x in jax.tree.leaves(memory) if x.dtype == jnp.float64]
        return sum(jnp.sum(jnp.sin(x)) for x in (read, *floats)), (read, memory, held)

    run = jax.jit(jax.grad(total, (0, 1), has_aux=True), static_argnums=2)
    gradient, (read, memory, _) = run(params, tokens, fast)
    expected, (looped, after, held) = run(params, tokens, slow)
    found = jax.tree.leaves_with_path((gradient, read, memory))
    others = jax.tree.leaves((expected, looped, after))
    for (path, a), b in zip(found, others, strict=True):
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10, err_msg=name)
    # In row 0 three tokens were read before; a document begins at the sixth.
    changes = np.any(np.diff(held[0], axis=0) != 0, axis=-1).nonzero()[0] + 1
    np.testing.assert_array_equal(changes, [4, 5, 8, 12])


def numpy_two_rate(tokens, maps, weights, every, slow_every):
    """Run linear memories of one head, without the layer's code."""

    def unit(x):
        return x / np.sqrt(np.sum(x * x) + 1e-6)

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    q, k, v, theta, eta, alpha = tokens
    low, high = weights
    low_push, high_push = np.zeros_like(low), np.zeros_like(high)
    anchor, frozen, out, reads = low, high, [], []
    for t in range(len(q)):
        if t % every == 0:
            anchor, reads = low, []
        low_push = eta[t] * low_push - 2 * theta[t] * np.outer(
            k[t], k[t] @ anchor - v[t]
        )
        low = (1 - alpha[t]) * low + low_push
        reads.append(q[t] @ low)
        gist = unit(reads[-1] @ maps["slow_query"]) @ frozen
        detail = unit(q[t] + gist @ maps["feedback"]) @ low
        gist = unit(detail @ maps["slow_query"]) @ frozen
        g = sigmoid(np.concatenate([q[t], detail, gist]) @ maps["mixture"])
        out.append(g * detail + (1 - g) * gist)
        if (t + 1) % every:
            continue
        r = np.mean(reads, axis=0)
        key, value = unit(r @ maps["slow_key"]), r @ maps["slow_value"]
        high_push = sigmoid(r @ maps["slow_momentum"]) * high_push
        rate = 0.1 / slow_every * sigmoid(r @ maps["slow_learning_rate"])
        high_push = high_push - 2 * rate * np.outer(key, key @ frozen - value)
        high = (1 - sigmoid(r @ maps["slow_forget"] - 5)) * high + high_push
        if (t + 1) % (every * slow_every) == 0:
            frozen = high
    return np.stack(out), low, high


def test_the_printed_equations(x64):
    layer = build(num_heads=1, head_size=3)
    graphdef, params = nnx.split(layer)
    layer = nnx.merge(graphdef, wide(params))
    tokens = jax.tree.map(lambda x: x[:1, :, :1], tokens_of())
    memory = wide(layer.init_memory(1))

    @jax.jit
    def run(tokens, memory):
        return layer.write_and_read(MemoryInputs(tokens), memory, None)

    read, after = run(tokens, memory)
    names = ("query", "key", "value", "learning_rate", "momentum", "forget")
    maps = {
        name: np.asarray(getattr(layer, name).kernel[...])
        for name in (*(f"slow_{n}" for n in names), "feedback", "mixture")
    }
    plain = [np.asarray(x)[0, :, 0] for x in jax.tree.leaves(tokens)]
    first = [
        np.asarray(m.weights["kernel_0"])[0, 0] for m in (memory.fast, memory.slow)
    ]
    out, low, high = numpy_two_rate(plain, maps, first, 2, 2)
    np.testing.assert_allclose(read[0, :, 0], out, rtol=1e-9)
    np.testing.assert_allclose(after.fast.weights["kernel_0"][0, 0], low, rtol=1e-9)
    np.testing.assert_allclose(after.slow.weights["kernel_0"][0, 0], high, rtol=1e-9)


def test_without_the_slow_memory_it_is_titans_lmm():
    layer = build(rounds=1, persistent_tokens=2, clip=1.0)
    off = {"kernel": jnp.zeros((18, 6)), "bias": jnp.full((6,), 40.0)}
    nnx.update(layer.mixture, off)
    names = {field.name for field in dataclasses.fields(TitansLMMConfig)}
    fields = {name: getattr(layer.config, name) for name in names}
    titans = TitansLMMConfig(**fields).build(WIDTH, nnx.Rngs(1), layer_index=0, depth=2)
    params = nnx.to_pure_dict(nnx.state(layer, nnx.Param))
    shared = {n: x for n, x in params.items() if n in vars(titans)}
    nnx.update(titans, shared)
    x = jax.random.normal(jax.random.key(0), (2, 9, WIDTH))
    y, expected = (
        jax.jit(lambda x, layer=layer: layer(x, layer.init_state(2, 0))[0])(x)
        for layer in (layer, titans)
    )
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"slow_every": 0}, "slow_every is 0; give a number above 0"),
        ({"rounds": 0}, "rounds is 0; give a number above 0"),
        ({"read": "before"}, "read is 'before', but hmm_two_rate reads after"),
    ],
)
def test_what_cannot_work_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(CONFIG, **fields)
