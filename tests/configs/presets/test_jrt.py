"""Stacks of "Just read twice": unchanged, and of the published sizes."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.configs.presets.jrt import PRESETS, disjointness_experiment
from memzoo.configs.serialise import from_json, to_json, type_name
from memzoo.data.prefix import PrefixConfig
from memzoo.data.set_disjointness import SetDisjointnessConfig
from memzoo.models.interface import SequenceInfo, state_bytes
from memzoo.models.language_model import abstract_model, num_parameters

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_as_they_were(name):
    """A changed default shows as a difference. `to_json` makes the new file."""
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    config = PRESETS[name]()
    assert to_json(config) == golden
    assert from_json(golden) == config
    assert config.name == name
    assert (PRESETS[name].__doc__ or "").startswith(f"memzoo train {name}")


@pytest.mark.parametrize(
    ("name", "depth", "prefixes", "windows", "parameters"),
    [
        ("text-jrt-360m", 26, (1, 6, 11, 16, 21), (2, 7, 12, 17, 22), 356.6e6),
        (
            "text-jrt-1b3",
            36,
            (1, 6, 11, 16, 21, 27, 33),
            (2, 7, 12, 17, 22, 28, 34),
            1375e6,
        ),
    ],
)
def test_layers_stand_where_they_were_published(
    name, depth, prefixes, windows, parameters
):
    config = PRESETS[name]()
    layers = [
        type_name(layer)
        for group in config.model.pattern
        for _ in range(group.repeats)
        for layer in group.layers
    ]
    assert len(layers) == depth
    for kind, places in (
        ("prefix_linear_attention", prefixes),
        ("sliding_window_attention", windows),
    ):
        assert tuple(i for i, each in enumerate(layers) if each == kind) == places
    rest = set(range(depth)) - set(prefixes) - set(windows)
    assert {layers[place] for place in rest} == {"gated_short_convolution"}
    assert abs(num_parameters(abstract_model(config.model)) / parameters - 1) < 1e-3


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "text-jrt-1b3"])
def test_a_training_loss_can_be_traced(name):
    config = PRESETS[name]()
    made = config.task.build("train").examples(np.arange(2))
    batch = jax.tree.map(jnp.asarray, made)

    def loss():
        return config.model.build(nnx.Rngs(0)).loss_sums(
            batch.tokens,
            batch.targets,
            target_positions=batch.target_positions,
            target_weights=batch.target_weights,
            info=SequenceInfo(batch.reset, batch.valid, batch.prefix),
        )

    assert batch.tokens.max() < config.model.vocab_size
    assert jax.eval_shape(loss).cross_entropy.shape == ()


def test_with_and_without_a_prefix_the_models_are_equal():
    task = SetDisjointnessConfig(sizes=((8, 2),), vocab_size=64)
    causal, prefixed = (
        disjointness_experiment("x", prefix=prefix, task=task, feature_size=8)
        for prefix in (False, True)
    )
    assert causal.model == prefixed.model
    assert causal.task == task
    assert prefixed.task == PrefixConfig(task=task, mask_share=0)
    stack = abstract_model(causal.model).stack
    assert state_bytes(stack, 13) == state_bytes(stack, 1300)
