"""The language-model presets: unchanged, buildable, with room for every byte."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.configs.presets.text import PRESETS
from memzoo.configs.serialise import to_json
from memzoo.models.interface import SequenceInfo
from memzoo.models.language_model import abstract_model

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_as_they_were(name):
    """A changed default shows as a difference. `to_json` makes the new file."""
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    assert to_json(PRESETS[name]()) == golden


@pytest.mark.parametrize("name", PRESETS)
def test_presets_build(name):
    config = PRESETS[name]()
    assert config.name == name
    assert (PRESETS[name].__doc__ or "").startswith(f"memzoo train {name}")
    assert config.model.vocab_size >= config.task.vocab_size
    assert config.model.vocab_size % 64 == 0  # so that devices can share it out
    assert abstract_model(config.model).embedding.shape == (320, config.model.width)


def test_the_batch_fits():
    """One batch for all presets: their tasks are equal."""
    tasks = {make().task for make in PRESETS.values()}
    assert len(tasks) == 1
    made = tasks.pop().build("validation").examples(np.arange(2))
    batch = jax.tree.map(jnp.asarray, made)
    assert batch.tokens.shape == (2, 256)
    for make in PRESETS.values():
        model = make().model

        def loss(model=model):
            return model.build(nnx.Rngs(0)).loss_sums(
                batch.tokens,
                batch.targets,
                target_weights=batch.target_weights,
                info=SequenceInfo(reset=batch.reset, valid=batch.valid),
            )

        assert jax.eval_shape(loss).cross_entropy.shape == ()
