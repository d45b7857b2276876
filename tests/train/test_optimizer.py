"""The schedules in closed form, and which parameters decay."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.configs.experiment import OptimizerConfig
from memzoo.train.optimizer import make_optimizer, make_schedule, schedule_numbers

STEPS = 101
BLOCK = "stack/groups/0/blocks/0"


def rates(counts, **config):
    config = OptimizerConfig(learning_rate=2.0, **config)
    schedule = make_schedule(config.schedule, schedule_numbers(config, STEPS))
    return [float(schedule(jnp.asarray(count))) for count in counts]


@pytest.mark.parametrize(
    ("schedule", "middle", "last"),
    [
        ("constant", 2.0, 2.0),
        ("cosine", 2.0 * (0.1 + 0.9 * 0.5), 0.2),
        ("linear", 2.0 * (1 - 0.9 * 0.5), 0.2),
    ],
)
def test_warm_up_then_the_schedule(schedule, middle, last):
    found = rates(
        [0, 5, 10, 55, 100],
        schedule=schedule,
        warmup_steps=10,
        final_fraction=0.1,
    )
    np.testing.assert_allclose(found, [0.0, 1.0, 2.0, middle, last], rtol=1e-6)


def test_cosine_at_a_quarter():
    found = rates([25], schedule="cosine", warmup_steps=0)
    np.testing.assert_allclose(found, [1 + math.cos(math.pi / 4)], rtol=1e-6)


def test_warm_up_stable_decay():
    found = rates(
        [0, 10, 50, 80, 90, 100],
        schedule="wsd",
        warmup_steps=10,
        decay_fraction=0.2,
        final_fraction=0.5,
    )
    np.testing.assert_allclose(found, [0.0, 2.0, 2.0, 2.0, 1.5, 1.0], rtol=1e-6)


def test_without_warm_up_the_peak_comes_first():
    for schedule in ("constant", "cosine", "linear", "wsd"):
        assert rates([0], schedule=schedule, warmup_steps=0) == [2.0]


def test_a_warm_up_longer_than_the_run_only_rises():
    found = rates([0, 50, 100], schedule="cosine", warmup_steps=200)
    np.testing.assert_allclose(found, [0.0, 0.5, 1.0], rtol=1e-6)


def test_decay_by_name_on_stacked_parameters():
    shapes = {"embedding": (4, 2), f"{BLOCK}/norm/scale": (3, 2)}
    params = {name: jnp.ones(shape) for name, shape in shapes.items()}
    config = OptimizerConfig(
        learning_rate=0.5, weight_decay=0.1, warmup_steps=0, schedule="constant"
    )
    optimizer = make_optimizer(config, schedule_numbers(config, STEPS), params)
    updates, _ = optimizer.update(
        jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params
    )
    np.testing.assert_allclose(updates["embedding"], -0.05, rtol=1e-6)
    assert not np.any(updates[f"{BLOCK}/norm/scale"])


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_adamw_in_numpy(clip_norm):
    """Two steps against the paper's loop (Loshchilov and Hutter, arXiv:1711.05101)."""
    config = OptimizerConfig(
        learning_rate=0.1,
        schedule="constant",
        warmup_steps=0,
        weight_decay=0.2,
        clip_norm=clip_norm,
    )
    value, m, v = np.array([[1.0, -2.0]]), 0.0, 0.0
    params = {"embedding": jnp.asarray(value)}
    optimizer = make_optimizer(config, schedule_numbers(config, STEPS), params)
    state = optimizer.init(params)
    for number, gradient in enumerate(([[3.0, 4.0]], [[0.3, -0.1]]), start=1):
        gradient = np.array(gradient)
        updates, state = optimizer.update(
            {"embedding": jnp.asarray(gradient)}, state, params
        )
        params = {"embedding": params["embedding"] + updates["embedding"]}
        if clip_norm is not None:
            gradient = gradient * min(1.0, clip_norm / np.linalg.norm(gradient))
        m = 0.9 * m + 0.1 * gradient
        v = 0.95 * v + 0.05 * gradient**2
        direction = (m / (1 - 0.9**number)) / (
            np.sqrt(v / (1 - 0.95**number)) + config.epsilon
        )
        value = value - 0.1 * (direction + 0.2 * value)
    np.testing.assert_allclose(params["embedding"], value, rtol=1e-5)
