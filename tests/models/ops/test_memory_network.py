import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.memory_network import MemoryNetwork, Plain, Recording, level_of

SIZES = {"key_size": 3, "value_size": 3, "hidden_size": 5}


def weights_of(network, seed=0):
    rng = np.random.default_rng(seed)
    shapes = network.matrices() | {n: (s,) for n, s in network.vectors().items()}
    return {n: jnp.asarray(rng.standard_normal((1, 1, *s))) for n, s in shapes.items()}


def test_an_mlp_with_everything(x64):
    network = MemoryNetwork(
        depth=2, activation="silu", residual=True, norm="fast", bias=True, **SIZES
    )
    weights = weights_of(network)
    x = jnp.asarray(np.random.default_rng(1).standard_normal((1, 1, 4, 3)))
    w = {n: np.asarray(a)[0, 0] for n, a in weights.items()}
    z = np.asarray(x)[0, 0] @ w["kernel_0"] + w["kernel_0_bias"]
    z = (z / (1 + np.exp(-z))) @ w["kernel_1"] + w["kernel_1_bias"]
    z = (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-6)
    expected = z * w["norm"] + w["norm_bias"] + np.asarray(x)[0, 0]
    y = network(Plain(weights, None, jnp.float64), x)
    np.testing.assert_allclose(y[0, 0], expected, rtol=1e-12)
    assert network.num_parameters == sum(a.size for a in weights.values())


def test_a_swiglu_with_a_slow_norm(x64):
    network = MemoryNetwork(kind="swiglu", norm="slow", **SIZES)
    weights = weights_of(network)
    slow = {"norm": jnp.full((1, 3), 2.0), "norm_bias": jnp.full((1, 3), 0.5)}
    x = jnp.asarray(np.random.default_rng(1).standard_normal((1, 1, 4, 3)))
    w = {n: np.asarray(a)[0, 0] for n, a in weights.items()}
    gate = np.asarray(x)[0, 0] @ w["gate"]
    z = (gate / (1 + np.exp(-gate)) * (np.asarray(x)[0, 0] @ w["up"])) @ w["down"]
    z = (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-6)
    y = network(Plain(weights, slow, jnp.float64), x)
    np.testing.assert_allclose(y[0, 0], 2 * z + 0.5, rtol=1e-12)


def test_a_record_holds_what_enters_every_matrix(x64):
    network = MemoryNetwork(depth=2, **SIZES)
    weights = weights_of(network)
    x = jnp.ones((1, 1, 4, 3))
    added = {n: jnp.zeros((1, 1, 4, o)) for n, (_, o) in network.matrices().items()}
    fast = Recording(weights, None, jnp.float64, added)
    y = network(fast, x)
    np.testing.assert_array_equal(fast.entered["kernel_0"], x)
    np.testing.assert_allclose(
        fast.entered["kernel_1"] @ weights["kernel_1"], y, rtol=1e-12
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"depth": 0}, "depth is 0; give 1 or more"),
        ({"residual": True, "value_size": 4}, "value size 4 differs from key size"),
        ({"levels": 0}, "levels is 0; give 1 or more"),
        ({"levels": 2, "value_size": 4}, "levels is 2, but value size 4 differs"),
    ],
)
def test_what_cannot_be_a_memory_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        MemoryNetwork(**(SIZES | fields))


def test_levels_are_applied_one_after_the_other(x64):
    one, two = MemoryNetwork(**SIZES), MemoryNetwork(levels=2, **SIZES)
    weights = weights_of(two)
    levels = [
        {n.removeprefix(f"level_{i}_"): w for n, w in weights.items() if f"l_{i}_" in n}
        for i in range(2)
    ]
    x = jnp.asarray(np.random.default_rng(1).standard_normal((1, 1, 4, 3)))
    first = one(Plain(levels[0], None, jnp.float64), x)
    expected = one(Plain(levels[1], None, jnp.float64), first)
    np.testing.assert_array_equal(two(Plain(weights, None, jnp.float64), x), expected)
    assert two.num_parameters == 2 * one.num_parameters
    assert [level_of(n) for n in two.matrices()] == [0, 0, 1, 1]
