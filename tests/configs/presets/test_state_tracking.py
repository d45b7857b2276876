"""The state tracking presets: unchanged and buildable."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.configs.presets.state_tracking import PRESETS
from memzoo.configs.serialise import from_json, to_json

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_as_they_were(name):
    """A changed default shows as a difference. `to_json` makes the new file."""
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    assert to_json(PRESETS[name]()) == golden
    assert from_json(golden) == PRESETS[name]()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_build_and_their_batches_fit(name):
    config = PRESETS[name]()
    assert config.name == name
    assert (PRESETS[name].__doc__ or "").startswith(f"memzoo train {name}: ")
    batch = config.task.build("train").examples(np.arange(2))
    tokens, targets = jnp.asarray(batch.tokens), jnp.asarray(batch.targets)
    assert config.model.vocab_size == config.task.vocab_size == 2

    def loss():
        return config.model.build(nnx.Rngs(0)).loss_sums(tokens, targets)

    assert jax.eval_shape(loss).cross_entropy.shape == ()


def test_presets_differ_in_their_layer_alone():
    configs = [make() for make in PRESETS.values()]
    assert len({config.task for config in configs}) == 1
    assert len({(config.optimizer, config.steps) for config in configs}) == 1
    layers = {type(config.model.pattern[0].layers[0]) for config in configs}
    assert len(layers) == len(PRESETS)
