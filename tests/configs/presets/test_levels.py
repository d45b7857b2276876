"""The presets of tasks with levels: unchanged and buildable."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.configs.presets.levels import PRESETS
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
    made = config.task.build("train").examples(np.arange(2))
    assert config.model.vocab_size == config.task.vocab_size
    assert made.tokens.max() < config.model.vocab_size
    batch = jax.tree.map(jnp.asarray, made)

    def loss():
        return config.model.build(nnx.Rngs(0)).loss_sums(
            batch.tokens,
            batch.targets,
            target_positions=batch.target_positions,
            target_weights=batch.target_weights,
        )

    assert jax.eval_shape(loss).cross_entropy.shape == ()
