"""Test-time regression against its problem solved token by token in numpy."""

import dataclasses
import itertools
from pathlib import Path
from typing import get_args

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import memzoo.models.ops
from memzoo import regression_grid
from memzoo.errors import InputError
from memzoo.models import LAYERS
from memzoo.models.interface import MemoryLayer
from memzoo.models.ops.feature_maps import polynomial, polynomial_size, taylor
from memzoo.models.regression import Regressor, Solver, Weights
from memzoo.models.test_time_regression import TestTimeRegressionConfig as Config
from memzoo.models.test_time_regression import why_refused

PAGE = Path(__file__).parents[2] / "docs" / "layers" / "test_time_regression.md"
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
    for name in ("decay/time/kernel", "decay/time/down/kernel", "decay/time/up/kernel"):
        time = time @ params[name] if name in params else time
    time = plain.softplus(time + params["decay/time_bias"])
    return np.exp(-rate * time.reshape(len(x), heads, -1))


def _fit(config, memory, decay, key, value, step):
    """Return the function after one token, from the one before it."""
    memory = decay[:, None] * memory
    if config.solver == "one_step":  # the negative gradient at zero, decayed
        return memory + np.outer(key, value)
    if config.solver == "online":
        return memory + step * np.outer(key, value - memory.T @ key)
    assert config.solver == "implicit"
    near = np.eye(len(key)) / step
    return np.linalg.solve(
        np.outer(key, key) + near, np.outer(key, value) + near @ memory
    )


def _loop(plain, config, params, x):
    heads = config.num_heads
    streams = {}
    for name in ("query", "key", "value"):
        kernel = params[f"{name}/convolution/kernel"]
        stream = plain.silu(plain.convolve(x @ params[f"{name}/kernel"], kernel))
        streams[name] = stream.reshape(len(x), heads, -1)
    decays = _decays(plain, config, params, x)
    steps = np.ones((len(x), heads))
    if config.solver != "one_step":
        implicit = config.solver == "implicit"
        step = plain.softplus if implicit else plain.sigmoid
        steps = step(x @ params["step_size/kernel"])
    unit = (lambda a: a) if config.solver == "implicit" else plain.unit
    memories, outputs = [0.0] * heads, []
    for t, token in enumerate(x):
        reads = []
        for h in range(heads):
            query, key = (
                _features(config, unit(streams[name][t, h]))
                for name in ("query", "key")
            )
            if t == 0:
                memories[h] = np.zeros((len(key), streams["value"].shape[-1]))
            memories[h] = _fit(
                config,
                memories[h],
                decays[t, h],
                key,
                streams["value"][t, h],
                steps[t, h],
            )
            read = memories[h].T @ query
            reads.append(plain.rms_norm(read, params["read_out/norm/scale"]))
        gate = plain.silu(token @ params["read_out/gate/kernel"])
        outputs.append(
            (np.concatenate(reads) * gate) @ params["read_out/projection/kernel"]
        )
    return np.stack(outputs), None


LOOPS = [
    ("scalar_decay", "constant", "online"),
    ("uniform", "linear", "one_step"),
    ("channel_decay", "linear", "one_step"),
    ("scalar_decay", "linear", "implicit"),
    ("channel_decay", "linear", "online"),
    ("scalar_decay", "polynomial", "online"),
    ("uniform", "polynomial", "implicit"),
]


@pytest.mark.parametrize("choice", LOOPS, ids="-".join)
def test_layer_solves_its_problem(choice, subject, assert_loop, plain):
    weights, regressor, solver = choice
    config = Config(
        weights=weights, regressor=regressor, solver=solver, num_heads=2, chunk_size=4
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


def test_grid_of_the_page_is_up_to_date():
    page = PAGE.read_text(encoding="utf-8")
    assert regression_grid.insert_grid(page) == page
    operations = Path(memzoo.models.ops.__file__).parent.glob("*.py")
    named = {*LAYERS, *(path.stem for path in operations)}
    for weights, regressor, solver in WORKING:
        config = Config(weights=weights, regressor=regressor, solver=solver)
        assert config.engine() in named


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
