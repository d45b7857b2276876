"""The manifest's checks, refusal by refusal."""

import dataclasses

import pytest

from memzoo.configs.experiment import MeshConfig, OptimizerConfig
from memzoo.configs.serialise import to_json
from memzoo.errors import CheckpointError, MemzooError
from memzoo.train.manifest import (
    DamagedError,
    check_config,
    check_data,
    check_leaves,
    pack,
    unpack,
)


def test_a_manifest_comes_back():
    manifest = {"schema": 1, "step": 3}
    assert unpack(pack(manifest)) == manifest


@pytest.mark.parametrize("value", [None, [], {}])
def test_no_manifest(value):
    with pytest.raises(DamagedError, match="it has no manifest"):
        unpack(value)


def test_a_changed_manifest():
    packed = pack({"schema": 1, "step": 3})
    packed["manifest"]["step"] = 4
    with pytest.raises(DamagedError, match="does not match the manifest's checksum"):
        unpack(packed)


def test_a_later_schema():
    with pytest.raises(CheckpointError, match="has schema 9 and this memzoo reads 1"):
        unpack(pack({"schema": 9}))


def test_what_may_change_between_a_run_and_its_continuation(small):
    saved = to_json(small())
    now = small(
        steps=40,
        log_every=1,
        checkpoint_every=7,
        keep_checkpoints=5,
        evaluate_every=3,
        evaluation_examples=4,
        stop_at_accuracy=0.5,
        mesh=MeshConfig(data=8),
    )
    check_config(saved, to_json(now))


def test_another_model_is_refused(small):
    config = small()
    model = dataclasses.replace(config.model, width=16)
    with pytest.raises(
        MemzooError, match=r"model.width = 8 and the config now has 16; give the old"
    ) as refusal:
        check_config(to_json(config), to_json(small(model=model)))
    assert refusal.value.exit_code == 2


def test_another_layer_is_named_by_its_place(small):
    config = small()
    group = config.model.pattern[0]
    layer = dataclasses.replace(group.layers[0], num_heads=1)
    group = dataclasses.replace(group, layers=(layer,))
    model = dataclasses.replace(config.model, pattern=(group,))
    with pytest.raises(MemzooError, match=r"model.pattern.0.layers.0.num_heads = 2"):
        check_config(to_json(config), to_json(small(model=model)))


def test_another_optimizer_seed_or_batch_is_refused(small):
    for change in (
        {"optimizer": OptimizerConfig(learning_rate=1.0)},
        {"seed": 1},
        {"batch_size": 16},
    ):
        with pytest.raises(MemzooError, match="the run was started with"):
            check_config(to_json(small()), to_json(small(**change)))


def test_a_field_younger_than_the_run_has_its_default(small):
    saved = to_json(small())
    del saved["model"]["tie_embeddings"]
    check_config(saved, to_json(small()))


def test_changed_data_is_named():
    check_data({"seed": 0, "pairs": [1, 2]}, {"seed": 0, "pairs": (1, 2)})
    with pytest.raises(CheckpointError, match="data has changed: seed was 0 and is 1"):
        check_data({"seed": 0}, {"seed": 1})
    check_data({"seed": 0}, {"seed": 0, "younger": None})
    with pytest.raises(CheckpointError, match=r"extra was '\(absent\)' and is 2"):
        check_data({"seed": 0}, {"seed": 0, "extra": 2})


def test_other_arrays_are_named():
    saved = {"a": [[2, 3], "float32", "00"], "b": [[1], "int32", "11"]}
    check_leaves(saved, {"a": [[2, 3], "float32"], "b": [[1], "int32"]})
    with pytest.raises(CheckpointError, match=r"array a is \[\[2, 3\], 'float32'\] in"):
        check_leaves(saved, {"a": [[2, 4], "float32"], "b": [[1], "int32"]})
    with pytest.raises(CheckpointError, match=r"array b is .* and \(absent\) in"):
        check_leaves(saved, {"a": [[2, 3], "float32"]})
