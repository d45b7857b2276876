"""The registry, and laws that every task obeys."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from memzoo.data import (
    TASKS,
    BalletConfig,
    FolderConfig,
    GistAndDetailConfig,
    MqarConfig,
    NeedleConfig,
    PrefixConfig,
    RepeatConfig,
    SetDisjointnessConfig,
    StateTrackingConfig,
    TaskConfig,
    TextConfig,
    TfdsConfig,
    ballet,
    needle,
    set_disjointness,
)
from memzoo.data.batch import Batch
from memzoo.data.task import (
    SPLITS,
    Config,
    DataError,
    Setting,
    Task,
    at_length,
    chance_of,
    fingerprint,
    kinds_of,
    reads_prefix,
    with_task_fields,
)
from memzoo.models.field_types import sort_of

# Mixed settings, and a shuffled training split.
SHUFFLED = MqarConfig(vocab_size=64, length=32, num_pairs=(1, 8), num_examples=8)
SETS = SetDisjointnessConfig(sizes=((2, 3), (4, 1), (1, 4)), vocab_size=40)
MIXED = [
    SHUFFLED,
    MqarConfig(
        vocab_size=64, length=32, num_pairs=(3, 5, 7), num_queries=2, num_examples=5
    ),
    RepeatConfig(task=SHUFFLED, times=2, question=False),
    PrefixConfig(task=SHUFFLED, mask_share=0.0),
    PrefixConfig(task=RepeatConfig(task=SHUFFLED), mask_share=0.0),
    NeedleConfig(length=65, depth=(0.0, 0.5, 1.0), value_length=3),
    RepeatConfig(task=NeedleConfig(length=65, depth=(1.0, 0.0), value_length=3)),
    SETS,
    RepeatConfig(task=SETS),
    StateTrackingConfig(group="S3"),
    NeedleConfig(length=80, num_needles=3, value_length=3),
    BalletConfig(num_dancers=(4, 2, 3), delay=2, dance_length=3),
    GistAndDetailConfig(num_segments=3),
    RepeatConfig(task=GistAndDetailConfig(num_segments=2)),
    TextConfig(length=64, max_bytes=300_000),
]

SMALL = [MqarConfig(), NeedleConfig(), TextConfig(length=64, max_bytes=50_000)]


def test_the_registry_holds_every_task_by_its_name():
    assert all(sort_of(kind) == "task" for kind in (TaskConfig, *TASKS.values()))
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


def measured(config: TaskConfig, batch: Batch, row: int) -> Setting:
    """Return the setting of a row, from only its tokens and targets."""
    task = config
    found: Setting = {"length": batch.tokens.shape[1]}
    while isinstance(task, RepeatConfig | PrefixConfig):
        if isinstance(task, RepeatConfig):
            found["repeat_context"] = task.times
        task = task.task
    tokens = batch.tokens[row]
    if isinstance(task, MqarConfig):
        asked = int((batch.target_weights[row] > 0).sum())
        found["num_pairs"] = asked
        if task.num_queries is not None:
            pairs = int(batch.context[row]) // 2
            found |= {"num_pairs": pairs, "num_queries": asked}
    elif isinstance(task, NeedleConfig):
        places = np.flatnonzero(tokens == needle.KEY_MARKER)
        if task.num_needles is not None:
            found["num_needles"] = len(places) - 1
        else:
            found["depth"] = places[0] / task.noise_length
    elif isinstance(task, SetDisjointnessConfig):
        words = tokens.tolist()
        middle = words.index(set_disjointness.SEPARATOR)
        end = words.index(set_disjointness.QUESTION)
        found |= {"first": middle - 1, "second": end - middle - 1}
        if "repeat_context" not in found:
            found["length"] = end + 1
    elif isinstance(task, BalletConfig):
        words = tokens.tolist()
        end = words.index(ballet.ASK)
        dancers = [w for w in words[:end] if 10 <= w < 18]
        still = words[: end // len(dancers)].count(ballet.STILL)
        found |= {"num_dancers": len(dancers), "delay": still, "length": end + 2}
    elif isinstance(task, GistAndDetailConfig):
        kinds = ("gist", "detail")
        found["question"] = kinds[int(tokens[batch.context[row]])]
        found["num_segments"] = int((batch.target_weights[row] > 0).sum())
    return found


@pytest.mark.parametrize("config", MIXED, ids=lambda config: config.task_name)
@pytest.mark.parametrize("split", SPLITS)
def test_a_row_is_measured_under_its_own_setting(config, split):
    task = config.build(split)
    batch = task.examples(np.arange(20))
    said = [task.setting(row) for row in range(20)]
    assert said == [measured(config, batch, row) for row in range(20)]
    kinds = [tuple(sorted(kind.items())) for kind in kinds_of(config)]
    assert {tuple(sorted(setting.items())) for setting in said} == set(kinds)


def test_every_task_is_tried():
    tried = {type(config) for config in MIXED}
    # These two are packed text, like `TextConfig`.
    assert tried | {FolderConfig, TfdsConfig} == set(TASKS.values())


def test_the_shuffle_of_an_epoch_moves_the_settings_with_the_rows():
    task = SHUFFLED.build("train")
    pairs = [task.setting(row)["num_pairs"] for row in range(16)]
    assert pairs[:8] == [8, 8, 1, 8, 8, 1, 1, 1]
    assert sorted(pairs[8:]) == sorted(pairs[:8]) and pairs[8:] != pairs[:8]


def test_kinds_are_the_length_where_a_task_says_no_more():
    assert kinds_of(TextConfig(length=64)) == ({"length": 64},)
    kinds = ({"num_pairs": 2, "length": 64}, {"num_pairs": 4, "length": 64})
    assert kinds_of(MqarConfig(num_pairs=(2, 4))) == kinds


def test_tasks_inside_others_get_other_fields():
    inner = SetDisjointnessConfig(vocab_size=32)
    task = PrefixConfig(task=RepeatConfig(task=inner), mask_share=0)
    there = with_task_fields(task, sizes=((2, 9), (9, 2)))
    assert there.task.task.sizes == ((2, 9), (9, 2)) and there.length == 28
    with pytest.raises(ValueError, match="needle has no field 'sizes'; known: depth, "):
        with_task_fields(RepeatConfig(task=NeedleConfig()), sizes=((2, 9),))
    with pytest.raises(ValueError, match=r"sizes holds \(30, 9\); with vocab_size 32"):
        with_task_fields(task, sizes=((30, 9),))


def test_tasks_are_read_at_other_lengths():
    repeated = RepeatConfig(task=NeedleConfig(length=32, vocab_size=32), times=3)
    there = at_length(repeated, 48)
    depths = (0.0, 0.25, 0.5, 0.75, 1.0)
    assert there.task == NeedleConfig(length=48, depth=depths, vocab_size=32)
    assert there.length == 144
    assert at_length(MqarConfig(num_pairs=2), 24) == MqarConfig(num_pairs=2, length=24)
    with pytest.raises(ValueError, match="set_disjointness has no field 'length'; kno"):
        at_length(SetDisjointnessConfig(), 48)


def test_chance_and_prefixes_are_those_of_the_task_inside():
    pairs = MqarConfig(num_pairs=(2, 4))
    for task in (pairs, RepeatConfig(task=pairs), PrefixConfig(task=pairs)):
        assert chance_of(task, {"num_pairs": 4}) == 0.25
        assert reads_prefix(task) == isinstance(task, PrefixConfig)
    assert chance_of(NeedleConfig(), {"length": 9}) == NeedleConfig().chance


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
