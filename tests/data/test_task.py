"""The registry, and what every task obeys."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from memzoo.data import TASKS, MqarConfig, NeedleConfig, TaskConfig, TextConfig
from memzoo.data.task import Config, DataError, Task, fingerprint, setting_of

SMALL = [MqarConfig(), NeedleConfig(), TextConfig(length=64, max_bytes=50_000)]


def test_the_registry_holds_every_task_by_its_name():
    assert set(get_args(TaskConfig)) == set(TASKS.values())
    assert {name: task.task_name for name, task in TASKS.items()} == {
        name: name for name in TASKS
    }
    for task in TASKS.values():
        assert dataclasses.is_dataclass(task)
        with pytest.raises(TypeError):
            task(1)  # keyword-only


@pytest.mark.parametrize("config", SMALL, ids=lambda config: config.task_name)
def test_a_task_obeys_the_protocols(config):
    assert isinstance(config, Config)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 5
    task = config.build("train")
    assert isinstance(task, Task)
    batch = task.examples(np.array([5, 0, 2]))
    rows, length = batch.tokens.shape
    assert (rows, length) == (3, config.length)
    assert batch.tokens.min() >= 0 and batch.tokens.max() < config.vocab_size
    assert batch.targets.min() >= 0 and batch.targets.max() < config.vocab_size
    if batch.target_positions is None:
        assert batch.targets.shape == batch.tokens.shape
    else:
        assert batch.target_positions.shape == batch.targets.shape
        assert batch.target_positions.max() < length
    assert batch.target_weights.shape == batch.targets.shape


@pytest.mark.parametrize("config", SMALL, ids=lambda config: config.task_name)
def test_a_fingerprint_survives_json(config):
    found = fingerprint(config)
    assert json.loads(json.dumps(found)) == found


def test_a_setting_is_the_length_where_a_task_says_no_more():
    assert setting_of(TextConfig(length=64), 5) == {"length": 64}
    mixed = MqarConfig(num_pairs=(2, 4))
    assert setting_of(mixed, 5) == {"num_pairs": 4, "length": 64}


def test_data_errors_are_value_errors():
    assert issubclass(DataError, ValueError)


def test_tasks_need_neither_jax_nor_tensorflow(tmp_path: Path):
    code = (
        "import sys\n"
        "for name in ('jax', 'flax', 'tensorflow'):\n"
        "    sys.modules[name] = None\n"
        "from memzoo.data import MqarConfig, NeedleConfig, TextConfig\n"
        "configs = MqarConfig(), NeedleConfig(), TextConfig(max_bytes=999)\n"
        "[config.build('train') for config in configs]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
