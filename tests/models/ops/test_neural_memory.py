"""The chunkwise form against the recurrent one, and that against published code."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.delta_rule import DELTA_RULE, DeltaTokens
from memzoo.models.ops.memory_network import MemoryNetwork
from memzoo.models.ops.neural_memory import (
    NeuralTokens,
    neural_memory_chunkwise,
    neural_memory_recurrent,
    neural_memory_step,
    read_memory,
    surprise,
)
from memzoo.models.ops.write_rule import WriteRule, new_memory
from memzoo.models.ops.write_schedule import Gates

BATCH, HEADS, KEY, VALUE, HIDDEN = 2, 2, 3, 3, 5
SIZES = {"key_size": KEY, "value_size": VALUE, "hidden_size": HIDDEN}
NETWORKS = {
    "linear": MemoryNetwork(depth=1, **SIZES),
    "mlp": MemoryNetwork(depth=2, **SIZES),
    "deep": MemoryNetwork(depth=3, residual=True, norm="fast", bias=True, **SIZES),
    "swiglu": MemoryNetwork(kind="swiglu", norm="slow", **SIZES),
}

# One program each, instead of many small ones.
chunkwise = jax.jit(neural_memory_chunkwise, static_argnames=("network", "rule"))
recurrent = jax.jit(neural_memory_recurrent, static_argnames=("network", "rule"))


def in_use(case, network, rule):
    """Return a memory in the middle of a window, with a separate anchor."""
    tokens = jax.tree.map(lambda x: x[:, :3], tokens_of(case))
    return recurrent(
        tokens, case["initial"], network=network, rule=rule, slow=case["slow"]
    )[1]


def tokens_of(case):
    return NeuralTokens(case["q"], case["k"], case["v"], case["gates"])


@partial(jax.jit, static_argnums=(0, 1))
def run(op, options, case, memory, masks):
    """Return values, and the gradient of a weighted sum of them for every input."""
    weights = jnp.cos(jnp.arange(case["v"].size)).reshape(case["v"].shape)
    if masks["valid"] is not None:
        weights = jnp.where(masks["valid"][..., None, None], weights, 0)

    def total(case, floats):
        after = memory._replace(**floats)
        read, after = op(
            tokens_of(case),
            after,
            slow=case["slow"],
            initial=case["initial"],
            **masks,
            **dict(options),
        )
        mixed = jnp.sum(read * weights)
        for i, leaf in enumerate(jax.tree.leaves(after._replace(position=None))):
            mixed += jnp.sum(
                leaf * jnp.sin(jnp.arange(leaf.size) + i).reshape(leaf.shape)
            )
        return mixed, (read, after)

    floats = memory._asdict()
    floats.pop("position")
    return jax.grad(total, argnums=(0, 1), has_aux=True, allow_int=True)(case, floats)


def assert_equal_forms(network, rule, case, memory, masks=None, **options):
    masks = {"reset": None, "valid": None} | (masks or {})
    settings = (("network", network), ("rule", rule))
    expected = run(neural_memory_recurrent, settings, case, memory, masks)
    fast = (*settings, *options.items())
    actual = run(neural_memory_chunkwise, fast, case, memory, masks)
    if masks["valid"] is not None:
        there = np.asarray(masks["valid"])[..., None, None]
        for _, (read, _) in (actual, expected):
            assert np.isfinite(np.asarray(read)).all()
        expected = (expected[0], (jnp.where(there, expected[1][0], 0), expected[1][1]))
        actual = (actual[0], (jnp.where(there, actual[1][0], 0), actual[1][1]))
    paths = jax.tree_util.tree_leaves_with_path(expected)
    for (path, a), b in zip(paths, jax.tree.leaves(actual), strict=True):
        if a.dtype == jax.dtypes.float0:
            continue
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(b, a, rtol=1e-8, atol=1e-9, err_msg=name)


def pairs(quick):
    """Return all networks and windows; all but the quick ones are marked slow."""
    for network in NETWORKS:
        for every in (1, 4, 16, 64):
            marks = () if (network, every) in quick else pytest.mark.slow
            yield pytest.param(network, every, marks=marks)


QUICK = (("linear", 1), ("mlp", 4), ("deep", 16), ("swiglu", 4))


@pytest.mark.parametrize(("network", "update_every"), list(pairs(QUICK)))
def test_chunkwise_equals_recurrent(x64, make_case, network, update_every):
    network, rule = NETWORKS[network], WriteRule(update_every=update_every)
    case = make_case(network, rule, 21)
    assert_equal_forms(network, rule, case, in_use(case, network, rule))


SCALED = {"scale_by_place": True, "keep_row_norms": True}
RULES = {
    "before": WriteRule(update_every=4, read="before", loss="half"),
    "clip": WriteRule(update_every=4, clip=0.5),
    "by place": WriteRule(update_every=4, scale_by_place=True),
    "row norms": WriteRule(update_every=4, keep_row_norms=True),
    "omega": WriteRule(update_every=4, loss_window=3),
    "omega, long": WriteRule(update_every=2, loss_window=6, clip=0.5),
    "many": WriteRule(update_every=4, read="before", loss="half", **SCALED),
    "window": WriteRule(update_every=4, schedule="window", loss="half"),
    "window read": WriteRule(update_every=4, read="window"),
    "muon": WriteRule(
        update_every=4, newton_schulz_steps=2, loss_window=3, read="before", clip=0.5
    ),
    "huber": WriteRule(update_every=4, loss="huber"),
    "q norm": WriteRule(update_every=4, loss="power", link="q_norm"),
    "softmax": WriteRule(update_every=4, loss="half", link="softmax", clip=0.5),
    "lagged": WriteRule(
        update_every=3, schedule="lagged", loss="inner", keep_output_norms=True
    ),
}


QUICK_RULES = ("omega, long", "window", "many")


@pytest.mark.parametrize(
    ("network", "rule"),
    [
        *[("mlp", name) for name in QUICK_RULES],
        *[pytest.param("deep", name, marks=pytest.mark.slow) for name in RULES],
    ],
)
def test_every_option_is_the_same_in_both_forms(x64, make_case, network, rule):
    network, rule = NETWORKS[network], RULES[rule]
    case = make_case(network, rule, 13, forget=rule.schedule != "window")
    reset = jnp.zeros((BATCH, 13), bool).at[0, 6].set(True).at[1, 7].set(True)
    length = jnp.asarray([13, 11])
    valid = jnp.arange(13)[None, :] < length[:, None]
    masks = {"reset": reset, "valid": valid}
    assert_equal_forms(network, rule, case, in_use(case, network, rule), masks)


LEVELS = {
    "linear": MemoryNetwork(levels=2, depth=1, residual=True, **SIZES),
    "mlp": MemoryNetwork(levels=3, residual=True, norm="fast", **SIZES),
}


@pytest.mark.parametrize(
    ("network", "rule"),
    [
        ("linear", WriteRule(update_every=2, level_ratio=3, read="window", clip=0.5)),
        *[
            pytest.param("mlp", rule, marks=pytest.mark.slow)
            for rule in (
                WriteRule(update_every=2, level_ratio=2, read="window", clip=0.5),
                WriteRule(update_every=1, level_ratio=2, keep_row_norms=True),
            )
        ],
    ],
)
def test_levels_are_the_same_in_both_forms(x64, make_case, network, rule):
    network = LEVELS[network]
    case = make_case(network, rule, 15, momentum=False, forget=False)
    reset = jnp.zeros((BATCH, 15), bool).at[0, 5].set(True)
    masks = {
        "reset": reset,
        "valid": jnp.arange(15)[None, :] < jnp.asarray([15, 11])[:, None],
    }
    memory = in_use(case, network, rule)
    assert_equal_forms(network, rule, case, memory, masks, chunk_size=4)


@pytest.mark.parametrize("name", ["muon", "huber", "q norm", "softmax", "lagged"])
def test_rules_of_whole_matrices_are_the_same_in_both_forms(x64, make_case, name):
    network, rule = MemoryNetwork(depth=1, **SIZES), RULES[name]
    case = make_case(network, rule, 6, momentum=name in ("muon", "lagged"))
    assert_equal_forms(network, rule, case, case["initial"])


@pytest.mark.parametrize(("momentum", "forget"), [(True, False), (False, True)])
def test_a_gate_can_be_left_out(x64, make_case, momentum, forget):
    network, rule = NETWORKS["linear"], WriteRule(update_every=4)
    case = make_case(network, rule, 9, momentum=momentum, forget=forget)
    assert_equal_forms(network, rule, case, in_use(case, network, rule))


@pytest.mark.parametrize(
    "chunk_size",
    [
        pytest.param(1, marks=pytest.mark.slow),
        3,
        pytest.param(64, marks=pytest.mark.slow),
    ],
)
def test_chunk_size_does_not_change_the_result(x64, make_case, chunk_size):
    network, rule = NETWORKS["mlp"], WriteRule(update_every=8)
    case = make_case(network, rule, 21)
    reset = jnp.zeros((BATCH, 21), bool).at[0, 5].set(True).at[1, 12].set(True)
    assert_equal_forms(
        network,
        rule,
        case,
        in_use(case, network, rule),
        {"reset": reset},
        chunk_size=chunk_size,
    )


@pytest.mark.parametrize(
    "kind", ["start", "end", "inside", "consecutive", "everywhere"]
)
def test_documents_begin_windows_of_their_own(x64, make_case, make_reset, kind):
    network, rule = NETWORKS["linear"], WriteRule(update_every=8)
    case = make_case(network, rule, 33)
    masks = {"reset": make_reset(kind, 33)}
    assert_equal_forms(network, rule, case, in_use(case, network, rule), masks)


def test_gates_may_be_exactly_zero_and_one(x64, make_case):
    network, rule = NETWORKS["linear"], WriteRule(update_every=4)
    case = make_case(network, rule, 12, keys="repeated")
    on = jnp.arange(12)[None, :, None] % 3 == 0
    gates = case["gates"]
    case["gates"] = Gates(
        jnp.where(on, 0.0, gates.learning_rate),
        jnp.where(on, 1.0, 0.0) * jnp.ones_like(gates.momentum),
        jnp.where(on, 1.0, 0.0) * jnp.ones_like(gates.forget),
    )
    assert_equal_forms(network, rule, case, in_use(case, network, rule))


def numpy_titans(q, k, v, gates, w1, w2, update_every):
    """Equations 12 to 15 with a two-layer memory, its gradient by hand, one head."""

    def gelu(x):
        inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
        return 0.5 * x * (1 + np.tanh(inner))

    def slope(x):
        inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
        outer = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x**2)
        return 0.5 * (1 + np.tanh(inner)) + 0.5 * x * outer / np.cosh(inner) ** 2

    s1, s2, out = np.zeros_like(w1), np.zeros_like(w2), []
    for t in range(len(q)):
        if t % update_every == 0:
            a1, a2 = w1, w2
        z = k[t] @ a1
        error = 2 * (gelu(z) @ a2 - v[t])
        u2 = np.outer(gelu(z), error)
        u1 = np.outer(k[t], (a2 @ error) * slope(z))
        theta, eta, alpha = (g[t] for g in gates)
        s1, s2 = eta * s1 - theta * u1, eta * s2 - theta * u2
        w1, w2 = (1 - alpha) * w1 + s1, (1 - alpha) * w2 + s2
        out.append(gelu(q[t] @ w1) @ w2)
    return np.stack(out), w1, w2


@pytest.mark.parametrize("update_every", [1, 5])
def test_equations_of_the_paper_by_hand(x64, make_case, update_every):
    network, rule = NETWORKS["mlp"], WriteRule(update_every=update_every)
    case = make_case(network, rule, 12)
    memory = case["initial"]
    read, after = chunkwise(
        tokens_of(case), memory,
        network=network, rule=rule,
    )  # fmt: skip
    for b, h in np.ndindex(BATCH, HEADS):
        tokens = (np.asarray(case[name])[b, :, h] for name in "qkv")
        gates = [np.asarray(g)[b, :, h] for g in case["gates"][:3]]
        weights = (np.asarray(memory.weights[f"kernel_{i}"])[b, h] for i in (0, 1))
        out, w1, w2 = numpy_titans(*tokens, gates, *weights, update_every)
        np.testing.assert_allclose(read[b, :, h], out, rtol=1e-10)
        np.testing.assert_allclose(after.weights["kernel_0"][b, h], w1, rtol=1e-10)
        np.testing.assert_allclose(after.weights["kernel_1"][b, h], w2, rtol=1e-10)


def test_without_momentum_and_forgetting_it_is_the_delta_rule(x64, make_case):
    network, rule = NETWORKS["linear"], WriteRule(update_every=1)
    case = make_case(network, rule, 14, momentum=False, forget=False)
    read, after = chunkwise(
        tokens_of(case), case["initial"], network=network, rule=rule
    )
    strength = 2 * case["gates"].learning_rate
    tokens = DeltaTokens(case["q"], case["k"], case["v"], strength)
    expected, memory = DELTA_RULE.recurrent(tokens, case["initial"].weights["kernel_0"])
    np.testing.assert_allclose(read, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(after.weights["kernel_0"], memory, rtol=1e-9)


def test_one_window_from_zero_is_linear_attention(x64, make_case):
    network, rule = NETWORKS["linear"], WriteRule(update_every=99, loss="half")
    case = make_case(network, rule, 14, momentum=False, forget=False)
    memory = jax.tree.map(jnp.zeros_like, case["initial"])
    gates = Gates(jnp.ones_like(case["gates"].learning_rate))
    tokens = tokens_of(case)._replace(gates=gates)
    read, _ = chunkwise(tokens, memory, network=network, rule=rule)
    scores = np.einsum("bthk,bshk->bhts", case["q"], case["k"]) * np.tri(14)
    expected = np.einsum("bhts,bshv->bthv", scores, case["v"])
    np.testing.assert_allclose(read, expected, rtol=1e-9, atol=1e-12)


def test_the_first_token_has_no_other_in_its_loss_window(x64, make_case):
    network = NETWORKS["mlp"]
    rule, wide = WriteRule(update_every=4), WriteRule(update_every=4, loss_window=2)
    case = make_case(network, rule, 10)
    memory = new_memory(case["initial"].weights, network, wide, momentum=True)
    read = partial(recurrent, network=network)
    one, _ = read(tokens_of(case), case["initial"], rule=rule)
    two, _ = read(tokens_of(case), memory, rule=wide)
    np.testing.assert_allclose(one[:, 0], two[:, 0], rtol=1e-12)
    assert np.abs(np.asarray(one - two)).max() > 1e-3


def test_ttt_as_its_authors_compute_it(x64, make_case):
    """The dual form printed in the published code, for a linear memory."""
    network = MemoryNetwork(depth=1, norm="slow", bias=True, **SIZES)
    rule = WriteRule(update_every=7, schedule="window", loss="half")
    case = make_case(network, rule, 7, forget=False)
    gates, slow, memory = case["gates"], case["slow"], case["initial"]
    read, after = chunkwise(
        tokens_of(case), memory, network=network, rule=rule, slow=slow
    )
    for b, h in np.ndindex(BATCH, HEADS):
        q, k, v = (jnp.asarray(case[n])[b, :, h] for n in "qkv")
        weight, bias = (memory.weights[n][b, h] for n in ("kernel_0", "kernel_0_bias"))
        scale, shift = slow["norm"][h], slow["norm_bias"][h]

        def norm(z, scale=scale, shift=shift):
            z = (z - z.mean(-1, keepdims=True)) / jnp.sqrt(
                z.var(-1, keepdims=True) + 1e-6
            )
            return z * scale[None] + shift[None]

        z = k @ weight + bias[None]
        g = jax.grad(lambda z, v=v, norm=norm: 0.5 * jnp.sum((norm(z) - v) ** 2))(z)
        eta = gates.step_scale[b, :, h][:, None] * gates.learning_rate[b, :, h][None]
        attention = jnp.tril(q @ k.T)
        z = q @ weight - (eta * attention) @ g + bias[None] - (eta * np.tri(7)) @ g
        np.testing.assert_allclose(read[b, :, h], norm(z), rtol=1e-9)
        last = weight - (eta[-1][:, None] * k).T @ g
        np.testing.assert_allclose(after.weights["kernel_0"][b, h], last, rtol=1e-9)


def test_step_is_one_gradient_of_the_printed_loss(x64, make_case):
    network, rule = NETWORKS["deep"], WriteRule(update_every=1)
    case = make_case(network, rule, 1)
    token = {n: case[n][:, 0] for n in "qkv"}
    gates = jax.tree.map(lambda g: g[:, 0], case["gates"])
    memory = case["initial"]
    tokens = NeuralTokens(*token.values(), gates)
    _, after = neural_memory_step(tokens, memory, network=network, rule=rule)

    def loss(weights):
        read = read_memory(case["k"], weights, network=network)
        return jnp.sum((read[:, 0] - token["v"]) ** 2)

    for name, u in jax.grad(loss)(memory.weights).items():
        ones = (1,) * (u.ndim - 2)
        theta, _, alpha = (g.reshape(*g.shape, *ones) for g in gates[:3])
        expected = (1 - alpha) * memory.weights[name] - theta * u
        np.testing.assert_allclose(after.weights[name], expected, rtol=1e-9, atol=1e-12)
    foreseen = surprise(token["k"], token["v"], memory.weights, network=network)
    np.testing.assert_allclose(jnp.sum(foreseen), loss(memory.weights), rtol=1e-9)


def test_later_tokens_change_no_bit_of_earlier_outputs(make_case, jit_as_users):
    network, rule = NETWORKS["mlp"], WriteRule(update_every=8)
    with jax.enable_x64(True):
        case = make_case(network, rule, 20)
    case = jax.tree.map(lambda x: x.astype(jnp.float32), case)
    memory = new_memory(case["initial"].weights, network, rule, momentum=True)
    call = jit_as_users(partial(chunkwise, network=network, rule=rule))
    tokens = tokens_of(case)
    before, _ = call(tokens, memory)
    changed = [x.at[:, 11:].multiply(-3.0) for x in tokens[:3]]
    after, _ = call(NeuralTokens(*changed, case["gates"]), memory)
    np.testing.assert_array_equal(before[:, :11], after[:, :11])
    assert not np.array_equal(before[:, 11:], after[:, 11:])
