"""The layer against the paper's equations, and properties of mixtures alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.delta_net import DeltaNetConfig
from memzoo.models.gated_delta_net import GatedDeltaNetConfig
from memzoo.models.interface import (
    AuxiliaryLoss,
    Metric,
    SequenceInfo,
    TokenInfo,
    state_bytes,
)
from memzoo.models.linear_attention import LinearAttentionConfig
from memzoo.models.mamba2 import Mamba2Config
from memzoo.models.mixture_of_memories import MixtureOfMemoriesConfig
from memzoo.models.retnet import RetNetConfig

WIDTH = 8
GATED = GatedDeltaNetConfig(num_heads=2, value_ratio=1, chunk_size=4)
MEMORIES = {
    "linear_attention": LinearAttentionConfig(num_heads=2, chunk_size=4),
    "retnet": RetNetConfig(num_heads=2, chunk_size=4),
    "mamba2": Mamba2Config(head_size=4, state_size=4, chunk_size=4),
    "delta_net": DeltaNetConfig(num_heads=2, chunk_size=4),
    "gated_delta_net": GATED,
}


def _run(layer, x, state, info=None):
    """Call a copy in jit, because a layer stores what it reports."""
    graphdef, arrays = nnx.split(layer)

    @jax.jit
    def call(x, state, info):
        return nnx.merge(graphdef, arrays)(x, state, info)

    return call(x, state, info)


def _loop(plain, config, params, x):
    """Compute the paper's equations on gated delta nets in numpy, token by token."""
    heads, count = config.memory.num_heads, config.num_memories
    copies = [*range(count), "shared"] if config.shared_memory else [*range(count)]

    def stream(name, copy):
        kernel = params[f"memory/{name}/kernel"]
        if copy == "shared" and not config.single_kv_proj:
            kernel = params[f"shared_maps/{name}/kernel"]
        elif kernel.ndim == 3:
            kernel = kernel[copy]
        mixed = plain.convolve(x @ kernel, params[f"memory/{name}/convolution/kernel"])
        return plain.silu(mixed).reshape(len(x), heads, -1)

    def gate(name, copy):
        kernel = params[f"memory/{name}/kernel"]
        if copy == "shared" and not config.single_kv_proj:
            kernel = params[f"shared_maps/{name}/kernel"]
        elif kernel.ndim == 3:
            kernel = kernel[copy]
        return x @ kernel

    query = stream("query", "query")
    size = query.shape[-1]
    scores = np.stack([plain.softmax(row @ params["router/kernel"]) for row in x])
    chosen = np.argsort(-scores, axis=1, kind="stable")[:, : config.top_k]
    read = np.zeros((len(x), heads, size))
    for copy in copies:
        key, value = stream("key", copy), stream("value", copy)
        strength = plain.sigmoid(gate("write_strength", copy))
        time = plain.softplus(gate("decay", copy) + params["memory/time_bias"])
        alpha = np.exp(-np.exp(params["memory/log_a"]) * time)
        memory = np.zeros((heads, size, size))
        for t in range(len(x)):
            if copy != "shared" and copy not in chosen[t]:
                continue
            share = 1.0
            if copy != "shared":
                share = scores[t, copy] / scores[t, chosen[t]].sum()
            for h in range(heads):
                k, q = plain.unit(key[t, h]), plain.unit(query[t, h])
                memory[h] *= alpha[t, h]
                error = value[t, h] - memory[h].T @ k
                memory[h] += strength[t, h] * np.outer(k, error)
                read[t, h] += share * memory[h].T @ q / np.sqrt(size)
    outputs = []
    for t in range(len(x)):
        normed = [
            plain.rms_norm(o, params["memory/read_out/norm/scale"]) for o in read[t]
        ]
        gated = np.concatenate(normed) * plain.silu(
            x[t] @ params["memory/read_out/gate/kernel"]
        )
        outputs.append(gated @ params["memory/read_out/projection/kernel"])
    return np.stack(outputs), None


OPTIONS = [
    {},
    {"shared_memory": False, "num_memories": 3},
    {"single_kv_proj": True, "top_k": 3},
    {"single_kv_proj": True, "shared_memory": False, "top_k": 1},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_layer_is_the_published_loop(subject, plain, options):
    config = MixtureOfMemoriesConfig(memory=GATED, **options)
    layer, params, x = subject(config)
    y, state = _run(layer, x, layer.init_state(2, 0))
    for row in range(2):
        wanted, _ = _loop(plain, config, params, np.asarray(x[row], np.float64))
        scale = np.max(np.abs(wanted))
        np.testing.assert_allclose(y[row], wanted, rtol=2e-5, atol=2e-5 * scale)
    np.testing.assert_array_equal(state.position, [x.shape[1]] * 2)


@pytest.mark.parametrize("single", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", MEMORIES)
def test_one_memory_alone_is_the_plain_layer(subject, name, single):
    config = MixtureOfMemoriesConfig(
        memory=MEMORIES[name],
        num_memories=1,
        top_k=1,
        shared_memory=False,
        single_kv_proj=single,
    )
    layer, params, x = subject(config)
    plain_layer = MEMORIES[name].build(WIDTH, nnx.Rngs(1), layer_index=0, depth=2)
    flat = nnx.to_flat_state(nnx.state(plain_layer, nnx.Param))
    for path, variable in flat:
        value = params["memory/" + "/".join(map(str, path))]
        variable.set_value(jnp.asarray(value.reshape(variable.shape), jnp.float32))
    reset = jnp.zeros(x.shape[:2], bool).at[0, 5].set(True)
    info = SequenceInfo(reset=reset)
    y, state = _run(layer, x, layer.init_state(2, 0), info)
    wanted, after = _run(plain_layer, x, plain_layer.init_state(2, 0), info)
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.memories[:, 0], after.memory, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        name if name == "retnet" else pytest.param(name, marks=pytest.mark.slow)
        for name in MEMORIES
    ],
)
def test_forms_are_one_map_over_every_rule(subject, name):
    """Include packed documents and padding."""
    config = MixtureOfMemoriesConfig(memory=MEMORIES[name])
    layer, _, x = subject(config, time=21)
    rng = np.random.default_rng(0)
    info = SequenceInfo(
        reset=jnp.asarray(rng.random((2, 21)) < 0.15),
        valid=jnp.asarray(rng.random((2, 21)) < 0.8),
    )
    start = jax.tree.map(
        lambda a: (
            a + rng.standard_normal(a.shape).astype(np.float32) / 4
            if a.dtype == jnp.float32
            else a
        ),
        layer.init_state(2, 0),
    )
    answers = {}
    for form in ("packed", "padded", "dense"):
        layer.config = dataclasses.replace(config, form=form)
        answers[form] = _run(layer, x, start, info)
    for form in ("packed", "padded"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            answers[form],
            answers["dense"],
        )


def _steered(layer, memory):
    """Return the layer with all tokens routed to `memory` and the next one."""
    kernel = np.zeros(layer.router.kernel.shape, np.float32)
    kernel[0, memory], kernel[0, memory + 1] = 9, 8
    layer.router.kernel[...] = jnp.asarray(kernel)
    return layer


def test_memories_that_are_not_chosen_stay_bit_for_bit(subject):
    layer, _, x = subject(MixtureOfMemoriesConfig(memory=GATED))
    _, state = _run(layer, x, layer.init_state(2, 0))
    layer = _steered(layer, 1)
    x = x.at[:, :, 0].set(1.0)
    _, after = _run(layer, x, state)
    _, stepped = layer.step(x[:, 0], state)
    for later in (after, stepped):
        for memory in (0, 3):
            np.testing.assert_array_equal(
                later.memories[:, memory], state.memories[:, memory]
            )
        for memory in (1, 2):
            changed = later.memories[:, memory] != state.memories[:, memory]
            assert np.all(np.any(changed, axis=(1, 2, 3)))
        assert not np.array_equal(later.shared_memory, state.shared_memory)


def test_a_document_start_empties_also_memories_that_nobody_chooses(subject):
    layer, _, x = subject(MixtureOfMemoriesConfig(memory=GATED))
    _, state = _run(layer, x, layer.init_state(2, 0))
    layer = _steered(layer, 1)
    x = x.at[:, :, 0].set(1.0)
    reset = jnp.zeros(x.shape[:2], bool).at[0, 4].set(True)
    _, after = _run(layer, x, state, SequenceInfo(reset=reset))
    np.testing.assert_array_equal(after.memories[0, 0], 0)
    np.testing.assert_array_equal(after.memories[1, 0], state.memories[1, 0])
    info = TokenInfo(reset=jnp.array([True, False]))
    _, stepped = layer.step(x[:, 0], state, info)
    np.testing.assert_array_equal(stepped.memories[0, 0], 0)
    np.testing.assert_array_equal(stepped.memories[1, 0], state.memories[1, 0])


@pytest.mark.parametrize("name", ["gated_delta_net", "mamba2"])
def test_nothing_leaks_across_memories_rows_or_time(subject, name):
    """A write to one memory is visible only to tokens that read that memory.

    Convolutions see all neighbours by design, so this test has none.
    """
    memory = dataclasses.replace(MEMORIES[name], convolution_size=0)
    config = MixtureOfMemoriesConfig(memory=memory, top_k=1, shared_memory=False)
    layer, _, x = subject(config, time=12)
    kernel = np.zeros(layer.router.kernel.shape, np.float32)
    kernel[:4, :4] = 30 * np.eye(4)
    layer.router.kernel[...] = jnp.asarray(kernel)
    turns = np.array([[0, 1, 2, 0, 1, 1, 0, 2, 3, 0, 1, 2], [3, 3, 1] * 4])
    x = x.at[:, :, :4].set(jax.nn.one_hot(turns, 4))
    np.testing.assert_array_equal(layer.routing(x).chosen[..., 0], turns)
    state = layer.init_state(2, 0)
    before, _ = _run(layer, x, state)
    # Change a token of memory 1, but not its routing.
    after, _ = _run(layer, x.at[0, 4, 5:].add(1.0), state)
    differs = np.any(np.asarray(after != before), axis=2)
    wanted = np.zeros((2, 12), bool)
    wanted[0, [t for t in range(4, 12) if turns[0, t] == 1]] = True
    np.testing.assert_array_equal(differs, wanted)


def test_convolutions_run_over_all_tokens_in_their_order(subject):
    """A token sees its neighbours, whichever memory they are routed to."""
    layer, _, x = subject(MixtureOfMemoriesConfig(memory=GATED, top_k=1), time=5)
    kernel = np.zeros(layer.router.kernel.shape, np.float32)
    kernel[:4, :4] = 30 * np.eye(4)
    layer.router.kernel[...] = jnp.asarray(kernel)
    x = x.at[:, :, :4].set(jax.nn.one_hot(jnp.array([0, 1, 2, 3, 0]), 4))
    state = layer.init_state(2, 0)
    _, before = _run(layer, x, state)
    _, after = _run(layer, x.at[:, 0, 5:].add(1.0), state)
    for memory, sees in enumerate((True, True, True, True)):
        same = np.array_equal(after.memories[:, memory], before.memories[:, memory])
        assert same != sees


def _numbers(layer, x, info=None):
    graphdef, arrays = nnx.split(layer)

    @jax.jit
    def call(x):
        copy = nnx.merge(graphdef, arrays)
        copy(x, copy.init_state(x.shape[0], 0), info)
        losses, metrics = nnx.pop(copy, AuxiliaryLoss), nnx.pop(copy, Metric)
        loss = losses["routing_loss"]
        said = loss.get_metadata()["of"](loss.get_value())
        return {"routing_loss": said}, nnx.to_pure_dict(metrics)

    return call(x)


def test_losses_and_metrics_are_their_formulas(subject, plain):
    config = MixtureOfMemoriesConfig(memory=GATED, balance_scale=0.5, z_scale=0.25)
    layer, params, x = subject(config)
    valid = np.arange(x.shape[1])[None] < np.array([[4], [9]])
    losses, metrics = _numbers(layer, x, SequenceInfo(valid=jnp.asarray(valid)))
    logits = np.asarray(x, np.float64)[valid] @ params["router/kernel"]
    scores = np.stack([plain.softmax(row) for row in logits])
    chosen = np.argsort(-scores, axis=1)[:, :2]
    share = np.array([np.mean(np.any(chosen == m, axis=1)) for m in range(4)])
    balance = 4 * np.sum(share * scores.mean(axis=0))
    z = np.mean(np.log(np.exp(logits).sum(axis=1)) ** 2)
    entropy = -np.mean(np.sum(scores * np.log(scores), axis=1))
    np.testing.assert_allclose(metrics["load"], share / 2, rtol=1e-5)
    np.testing.assert_allclose(metrics["balance"], balance, rtol=1e-5)
    np.testing.assert_allclose(metrics["z"], z, rtol=1e-5)
    np.testing.assert_allclose(metrics["routing_entropy"], entropy, rtol=1e-5)
    # Divided by the depth, which is 2.
    wanted = (0.5 * balance + 0.25 * z) / 2
    np.testing.assert_allclose(losses["routing_loss"], wanted, rtol=1e-5)


def test_the_balance_loss_of_equal_probabilities_and_of_one_set(subject):
    layer, _, x = subject(MixtureOfMemoriesConfig(memory=GATED))
    layer.router.kernel[...] = jnp.zeros_like(layer.router.kernel[...])
    _, metrics = _numbers(layer, x)
    np.testing.assert_allclose(metrics["balance"], 2.0, rtol=1e-6)
    np.testing.assert_allclose(metrics["routing_entropy"], np.log(4), rtol=1e-6)
    _, metrics = _numbers(_steered(layer, 0), x.at[:, :, 0].set(1.0))
    assert metrics["balance"] > 3.9
    np.testing.assert_allclose(metrics["load"], [0.5, 0.5, 0, 0])


def test_padding_alone_reports_finite_numbers(subject):
    layer, _, x = subject(MixtureOfMemoriesConfig(memory=GATED))
    info = SequenceInfo(valid=jnp.zeros(x.shape[:2], bool))
    for number in jax.tree.leaves(_numbers(layer, x, info)):
        assert np.all(np.isfinite(number))


def test_the_state_holds_all_memories_and_no_tail_twice():
    config = MixtureOfMemoriesConfig(memory=GATED)
    layer = config.build(WIDTH, nnx.Rngs(0), layer_index=0, depth=2)
    memory, tail = 2 * 4 * 4, 3 * WIDTH
    wanted = 5 * memory + (1 + 2 * 5) * tail
    assert state_bytes(layer, 64) == 4 * wanted


def test_parameters_by_formula(subject):
    _, params, _ = subject(MixtureOfMemoriesConfig(memory=GATED))
    plain_layer = GATED.build(WIDTH, nnx.Rngs(0), layer_index=0, depth=2)
    alone = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(plain_layer)))
    own = 2 * WIDTH**2 + 2 * WIDTH * 2
    wanted = alone + 4 * own + 4 * WIDTH
    assert sum(p.size for p in params.values()) == wanted
