"""Types of fields, over the whole tree of a config."""

import copy
import dataclasses
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from memzoo.configs.experiment import ExperimentConfig, MeshConfig
from memzoo.configs.presets import PRESETS
from memzoo.data import TASKS
from memzoo.data.mqar import MqarConfig
from memzoo.data.prefix import PrefixConfig
from memzoo.data.set_disjointness import SetDisjointnessConfig
from memzoo.errors import InputError
from memzoo.models import LAYERS
from memzoo.models.attention import AttentionConfig
from memzoo.models.block import Group
from memzoo.models.delta_net import DeltaNetConfig
from memzoo.models.field_types import check_fields, check_types, sort_of, wrong_field
from memzoo.models.language_model import LanguageModelConfig
from memzoo.models.mixture_of_memories import MixtureOfMemoriesConfig

TASK = MqarConfig(vocab_size=32, length=16, num_pairs=4)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MineConfig:
    """A user's layer; one annotation cannot be resolved."""

    inner: Any = None
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    unknown: "NoSuchThing" = 3  # type: ignore[name-defined]

    def build(self, width, rngs, *, layer_index, depth):
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnyConfig:
    """Annotations of every kind; neither a layer nor a task."""

    inner: Any = None
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    pair: tuple[int, str] | None = None
    choice: Literal[1, "a"] = 1
    number: float = 1.0
    switch: bool = False


def changed(config: Any, path: str, value: Any) -> Any:
    """Return a copy with another value at a path, set without a constructor."""
    name, dot, rest = path.partition(".")
    if isinstance(config, tuple):
        index = int(name)
        value = changed(config[index], rest, value) if dot else value
        return (*config[:index], value, *config[index + 1 :])
    made = copy.copy(config)
    value = changed(getattr(config, name), rest, value) if dot else value
    object.__setattr__(made, name, value)
    return made


BASE = ExperimentConfig(
    name="x",
    model=LanguageModelConfig(
        vocab_size=64,
        width=16,
        pattern=(
            Group(layers=(AttentionConfig(), MixtureOfMemoriesConfig())),
            Group(layers=(AttentionConfig(),)),
        ),
    ),
    task=PrefixConfig(task=SetDisjointnessConfig(sizes=((2, 3), (4, 1)), vocab_size=9)),
)
BASE = changed(BASE, "model.pattern.1.layers.0", MineConfig())


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_its_types(name):
    assert wrong_field(PRESETS[name]()) is None


@pytest.mark.parametrize("kind", LAYERS.values(), ids=LAYERS)
def test_every_layer_has_its_types(kind):
    assert sort_of(kind) == "layer" and wrong_field(kind()) is None


def test_sorts():
    assert {sort_of(kind) for kind in TASKS.values()} == {"task"}
    assert sort_of(MineConfig) == "layer"
    assert sort_of(AnyConfig) is sort_of(Group) is sort_of(int) is None


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("optimizer", None, "optimizer is None; it must be OptimizerConfig"),
        ("model", None, "model is None; it must be LanguageModelConfig"),
        (
            "mesh",
            MeshConfig,
            "mesh is the class MeshConfig (without parentheses after ",
        ),
        ("mesh", {"data": 1}, "mesh is {'data': 1}; it must be MeshConfig"),
        ("mesh.data", "2", "mesh.data is '2'; it must be int or None"),
        ("optimizer.beta1", "0.9", "optimizer.beta1 is '0.9'; it must be float"),
        ("optimizer.schedule", 3, "optimizer.schedule is 3; it must be one of 'const"),
        ("steps", True, "steps is True; it must be int"),
        ("model.width", 64.0, "model.width is 64.0; it must be int"),
        ("model.width", np.int64(64), "(64); it must be int"),
        ("model.tie_embeddings", 1, "model.tie_embeddings is 1; it must be bool"),
        ("model.remat", None, "model.remat is None; it must be one of 'none', 'full'"),
        ("model.pattern", "attention", "pattern is 'attention'; it must be a tuple of"),
        ("model.pattern", ("attention",), "pattern.0 is 'attention'; it must be Group"),
        ("model.pattern", [BASE.model.pattern[0]], "model.pattern is [Group(layers=("),
        (
            "model.pattern.0.layers.1",
            "delta_net",
            "model.pattern.0.layers.1 is 'delta_net'; it must be the config of a layer",
        ),
        (
            "model.pattern.0.layers.0",
            AttentionConfig,
            "model.pattern.0.layers.0 is the class AttentionConfig (without paren",
        ),
        (
            "model.pattern.0.layers.0.num_heads",
            2.0,
            "model.pattern.0.layers.0.num_heads is 2.0; it must be int",
        ),
        (
            "model.pattern.0.layers.1.memory",
            "delta_net",
            "layers.1.memory is 'delta_net'; it must be the config of a layer",
        ),
        (
            "model.pattern.0.layers.1.memory",
            TASK,
            "layers.1.memory is MqarConfig(vocab_size=32, length=16, num_pairs=4, fill",
        ),
        (
            "model.pattern.0.layers.1.memory.head_size",
            "8",
            "model.pattern.0.layers.1.memory.head_size is '8'; it must be int or None",
        ),
        (
            "model.pattern.1.layers.0",
            AnyConfig(),
            "model.pattern.1.layers.0 is AnyConfig(inner=None, sizes={}, pair=None, ch",
        ),
        ("task", "mqar", "task is 'mqar'; it must be the config of a task"),
        ("task", AttentionConfig(), "task is AttentionConfig(num_heads=4, "),
        ("task.share", "half", "task.share is 'half'; it must be float or None"),
        ("task.task.seed", "3", "task.task.seed is '3'; it must be int"),
        ("task.task.sizes.1.1", 1.0, "task.task.sizes.1.1 is 1.0; it must be int"),
        ("task.task.sizes.0", (2, 3, 4), "sizes.0 is (2, 3, 4); give a tuple of 2"),
        (
            "task.task.sizes",
            [(2, 3)],
            "sizes is [(2, 3)]; it must be a tuple of a tuple of int",
        ),
    ],
    ids=lambda _: "",
)
def test_a_wrong_type_is_named_by_its_path(path, value, message):
    check_types(BASE)
    with pytest.raises(ValueError) as refusal:
        check_types(changed(BASE, path, value))
    said = str(refusal.value)
    assert message in said and "\n" not in said and len(said) < 300


def test_several_kinds_of_value_are_all_named():
    said = "num_pairs is [1, 8]; it must be int or a tuple of int"
    assert wrong_field(changed(MqarConfig(), "num_pairs", [1, 8])) == said
    said = "num_pairs.1 is 8.0; it must be int"
    assert wrong_field(changed(MqarConfig(), "num_pairs", (1, 8.0))) == said


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("inner", DeltaNetConfig(), None),
        ("inner", (1, "b"), None),
        ("inner", print, None),
        ("sizes", {"a": 1}, None),
        ("pair", (3, "x"), None),
        ("choice", "a", None),
        ("number", 3, None),
        ("number", np.float64(2.0), None),
        ("sizes", [1], "sizes is [1]; it must be dict"),
        ("pair", (3, 4), "pair.1 is 4; it must be str"),
        ("pair", (3, "x", 1), "pair is (3, 'x', 1); give a tuple of 2"),
        ("choice", True, "choice is True; it must be one of 1, 'a'"),
        ("number", True, "number is True; it must be float"),
        ("number", 1j, "number is 1j; it must be float"),
        ("switch", 0, "switch is 0; it must be bool"),
        ("switch", "x" * 99, f"switch is '{'x' * 76}...; it must be bool"),
        (
            "inner",
            changed(DeltaNetConfig(), "num_heads", 2.0),
            "inner.num_heads is 2.0; it must be int",
        ),
    ],
    ids=lambda _: "",
)
def test_annotations_of_every_kind(name, value, said):
    assert wrong_field(changed(AnyConfig(), name, value)) == said


def test_what_cannot_be_resolved_is_left_alone():
    assert wrong_field(changed(MineConfig(), "sizes", 3)) is None


def test_a_path_is_no_text():
    config = changed(BASE, "name", Path("x"))
    assert (wrong_field(config) or "").endswith("Path('x'); it must be str")


def test_fields_are_checked_before_a_config_is_made():
    check_fields(AnyConfig, {"number": 2, "pair": (1, "a"), "not_a_field": 3})
    check_fields(MineConfig, {"unknown": "x"})
    with pytest.raises(InputError, match=r"^number is '2'; it must be float$"):
        check_fields(AnyConfig, {"switch": True, "number": "2"})
