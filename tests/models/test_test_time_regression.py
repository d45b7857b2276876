"""Test-time regression against its problem solved token by token in numpy."""

import dataclasses
import itertools
from typing import get_args

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.errors import InputError
from memzoo.models.interface import MemoryLayer
from memzoo.models.ops.feature_maps import polynomial, polynomial_size, taylor
from memzoo.models.regression import Regressor, Solver, Weights
from memzoo.models.test_time_regression import TestTimeRegressionConfig as Config
from memzoo.models.test_time_regression import why_refused

ALL = list(itertools.product(get_args(Weights), get_args(Regressor), get_args(Solver)))
WORKING = [c for c in ALL if why_refused(*c) is None]


def _features(config, x):
    if config.regressor == "constant":
        return np.ones(1)
    if config.regressor == "linear":
        return x
    assert config.degree == 2  # all products of two numbers, each twice
    both = np.concatenate([[1], x, np.outer(x, x).ravel() / np.sqrt(2)])
    return both / np.sqrt(1 + 1 + 1 / 2)


def _decays(plain, config, params, x):
    """Return the decays t h f; f is 1 unless they are by channel."""
    heads = config.num_heads
    if config.weights == "uniform":
        return np.ones((len(x), heads, 1))
    rate = np.exp(params["decay/log_a"])[None, :, None]
    time = x
    for name in ("decay/kernel", "decay/time/down/kernel", "decay/time/up/kernel"):
        time = time @ params[name] if name in params else time
    time = plain.softplus(time + params["decay/time_bias"])
    return np.exp(-rate * time.reshape(len(x), heads, -1))


def _step(config, memory, decay, keys, values, steps):
    """Return the function after one token, from the one before it."""
    memory = decay[:, None] * memory
    for key, value, step in zip(keys, values, steps, strict=True):
        if config.solver == "one_step":  # the negative gradient at zero, decayed
            memory = memory + np.outer(key, value)
        elif config.solver == "implicit":
            near = np.eye(len(key)) / step
            right = np.outer(key, value) + near @ memory
            memory = np.linalg.solve(np.outer(key, key) + near, right)
        else:
            memory = memory + step * np.outer(key, value - memory.T @ key)
    return memory


def _least_squares(config, decays, keys, values):
    """Return the best function after all tokens: least squares with added rows."""
    root = np.sqrt([np.prod(decays[s + 1 :]) for s in range(len(keys))])[:, None]
    size = keys.shape[-1]
    rows = np.concatenate([root * keys, np.sqrt(config.ridge) * np.eye(size)])
    zeros = np.zeros((size, values.shape[-1]))
    return np.linalg.lstsq(rows, np.concatenate([root * values, zeros]))[0]


def _functions(config, decays, keys, values, steps):
    """Yield one head's function after every token."""
    memory = np.zeros((keys.shape[-1], values.shape[-1]))
    for t in range(len(keys)):
        if config.solver in ("exact", "conjugate_gradients"):
            end = slice(t + 1)
            yield _least_squares(config, decays[end, 0], keys[end, 0], values[end, 0])
        else:
            memory = _step(config, memory, decays[t], keys[t], values[t], steps[t])
            yield memory


def _loop(plain, config, params, x):
    heads, streams = config.num_heads, {}
    for name in ("query", "key", "value"):
        kernel = params[f"{name}/convolution/kernel"]
        stream = plain.silu(plain.convolve(x @ params[f"{name}/kernel"], kernel))
        streams[name] = stream.reshape(len(x), -1, heads, config.head_size)
    steps = np.ones((len(x), 1, heads))
    if "step_size/kernel" in params:
        made = plain.softplus if config.solver == "implicit" else plain.sigmoid
        steps = made(x @ params["step_size/kernel"]).reshape(len(x), -1, heads)
    decays = _decays(plain, config, params, x)

    def features(name):
        unit = (lambda a: a) if config.solver == "implicit" else plain.unit
        return np.apply_along_axis(
            lambda a: _features(config, unit(a)), -1, streams[name]
        )

    query, key, reads = features("query"), features("key"), []
    for h in range(heads):
        functions = _functions(
            config,
            decays[:, h],
            key[:, :, h],
            streams["value"][:, :, h],
            steps[:, :, h],
        )
        read = [m.T @ query[t, 0, h] for t, m in enumerate(functions)]
        scale = params["read_out/norm/scale"]
        reads.append(np.stack([plain.rms_norm(r, scale) for r in read]))
    gate = plain.silu(x @ params["read_out/gate/kernel"])
    read = np.concatenate(reads, axis=-1)
    return (read * gate) @ params["read_out/projection/kernel"], None


LOOPS = [
    ("scalar_decay", "constant", "online"),
    ("uniform", "linear", "one_step"),
    ("channel_decay", "linear", "one_step"),
    ("scalar_decay", "linear", "implicit"),
    ("channel_decay", "linear", "online"),
    ("scalar_decay", "polynomial", "online"),
    ("uniform", "polynomial", "implicit"),
    ("scalar_decay", "linear", "several_steps"),
    ("scalar_decay", "linear", "exact"),
    ("uniform", "polynomial", "conjugate_gradients"),
]


@pytest.mark.parametrize("choice", LOOPS, ids="-".join)
def test_layer_solves_its_problem(choice, subject, assert_loop, plain):
    weights, regressor, solver = choice
    config = Config(
        weights=weights,
        regressor=regressor,
        solver=solver,
        num_heads=2,
        head_size=4,
        chunk_size=4,
    )
    assert_loop(subject(config), lambda p, x: _loop(plain, config, p, x))


def _abstract(config):
    return nnx.eval_shape(lambda: config.build(8, nnx.Rngs(0), layer_index=0, depth=1))


@pytest.mark.parametrize("choice", WORKING, ids="-".join)
def test_combination_builds(choice):
    weights, regressor, solver = choice
    config = Config(weights=weights, regressor=regressor, solver=solver, num_heads=2)
    assert isinstance(_abstract(config), MemoryLayer)


def test_other_combinations_say_why():
    assert len(WORKING) >= 20
    for weights, regressor, solver in set(ALL) - set(WORKING):
        with pytest.raises(InputError, match="; choose the ") as error:
            Config(weights=weights, regressor=regressor, solver=solver)
        assert "\n" not in str(error.value)


def test_large_polynomials_are_refused():
    config = Config(regressor="polynomial", degree=4, head_size=64)
    with pytest.raises(InputError, match="degree 4 in 64 numbers has 814,385 features"):
        _abstract(config)


def test_networks_forget_only_with_decay():
    config = Config(weights="uniform", regressor="mlp")
    assert config.named_layer().forget is False
    config = dataclasses.replace(config, weights="scalar_decay")
    assert config.named_layer().forget is True
    assert not config.named_layer().momentum


def test_polynomial_features_have_the_truncated_exponential(x64):
    x, y = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5)))
    s = x @ y
    features = polynomial(x, 3), polynomial(y, 3)
    assert features[0].shape == (polynomial_size(5, 3),) == (56,)
    wanted = 1 + s + s**2 / 2 + s**3 / 6
    np.testing.assert_allclose(features[0] @ features[1], wanted, rtol=1e-12)
    second = polynomial(x, 2) @ polynomial(y, 2)
    np.testing.assert_allclose(second, taylor(x) @ taylor(y), rtol=1e-12)
