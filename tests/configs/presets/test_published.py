"""Presets in published sizes: unchanged, and as large as they claim."""

import json
from pathlib import Path

import pytest

from memzoo.configs.presets.published import PRESETS
from memzoo.configs.serialise import from_json, to_json
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
    assert config.batch_size * config.task.length in (2**19, 2**21)


@pytest.mark.parametrize("name", PRESETS)
def test_parameters_by_formula(name):
    config = PRESETS[name]().model
    d = config.width
    heads = d // 256
    shared = 3 * d**2 + 3 * 4 * d + 2 * heads + 256
    own = 2 * d**2 + 2 * d * heads
    block = shared + 5 * own + 4 * d + 2 * d + 3 * d * 2 * d
    wanted = 24 * block + 32000 * d + d
    assert num_parameters(abstract_model(config)) == wanted
