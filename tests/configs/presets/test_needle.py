"""The needle presets: unchanged, buildable, and comparable."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.configs.presets.mqar import comparable_layer
from memzoo.configs.presets.needle import PRESETS, needle_experiment
from memzoo.configs.serialise import from_json, to_json
from memzoo.data.needle import NeedleConfig

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_as_they_were(name):
    """A changed default shows as a difference. `to_json` makes the new file."""
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    assert to_json(PRESETS[name]()) == golden


@pytest.mark.parametrize("name", PRESETS)
def test_presets_build_and_their_batches_fit(name):
    config = PRESETS[name]()
    assert config.name == name
    assert (PRESETS[name].__doc__ or "").startswith(f"memzoo train {name}")
    made = config.task.build("train").examples(np.arange(2))
    batch = jax.tree.map(jnp.asarray, made)
    assert batch.tokens.max() < config.model.vocab_size

    def loss():
        model = config.model.build(nnx.Rngs(0))
        return model.loss_sums(
            batch.tokens,
            batch.targets,
            target_positions=batch.target_positions,
            target_weights=batch.target_weights,
        )

    assert jax.eval_shape(loss).cross_entropy.shape == ()


def test_presets_differ_in_their_layer_alone():
    configs = [make() for make in PRESETS.values()]
    assert len({config.task for config in configs}) == 1
    assert len({(config.optimizer, config.steps) for config in configs}) == 1
    layers = {type(config.model.pattern[0].layers[0]) for config in configs}
    assert len(layers) == len(PRESETS)


def test_depths_survive_json():
    layer = comparable_layer("attention", 32)
    task = NeedleConfig(length=64, vocab_size=256, depth=(0.0, 0.5))
    config = needle_experiment(layer, "x", task=task, width=32, depth=3, steps=9)
    assert (config.model.vocab_size, config.steps) == (256, 9)
    assert config.model.stack.depth == 3
    assert from_json(json.loads(json.dumps(to_json(config)))) == config
