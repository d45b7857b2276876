"""Values that an experiment refuses, each in one line with field and remedy."""

import dataclasses

import pytest

from memzoo.configs.experiment import ExperimentConfig, MeshConfig, OptimizerConfig
from memzoo.data.mqar import MqarConfig
from memzoo.data.text import FolderConfig
from memzoo.models.block import Group
from memzoo.models.language_model import LanguageModelConfig
from memzoo.models.linear_attention import LinearAttentionConfig

TASK = MqarConfig(vocab_size=32, length=16, num_pairs=4)
MODEL = LanguageModelConfig(
    vocab_size=32, width=16, pattern=(Group(layers=(LinearAttentionConfig(),)),)
)


def experiment(**fields):
    return ExperimentConfig(**{"name": "x", "model": MODEL, "task": TASK} | fields)


COUNTS = (
    "steps",
    "batch_size",
    "gradient_accumulation",
    "log_every",
    "checkpoint_every",
    "keep_checkpoints",
    "evaluation_examples",
)


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [0, -1, True])
def test_counts_are_whole_and_positive(name, value):
    message = rf"^{name} is {value!r}; give a whole number, 1 or more$"
    with pytest.raises(ValueError, match=message):
        experiment(**{name: value})


@pytest.mark.parametrize("name", ["evaluate_every", "data_workers", "seed"])
@pytest.mark.parametrize("value", [-1, False])
def test_counts_from_zero_on(name, value):
    # beartype refuses wrong types here; test_main has one as a user sees it.
    with pytest.raises(ValueError, match=rf"^{name} is {value!r}; .* 0 or more$"):
        experiment(**{name: value})
    assert getattr(experiment(**{name: 0}), name) == 0


def test_the_rest_of_an_experiment():
    with pytest.raises(ValueError, match=r"name is empty; give"):
        experiment(name="")
    with pytest.raises(ValueError, match=r"seed is 4294967296; give .* below 2\^32"):
        experiment(seed=2**32)
    with pytest.raises(
        ValueError,
        match=r"batch_size is 6; give a multiple of gradient_accumulation, 4",
    ):
        experiment(batch_size=6, gradient_accumulation=4)
    with pytest.raises(
        ValueError, match=r"model.vocab_size is 32; give the task's 64 or more"
    ):
        experiment(task=dataclasses.replace(TASK, vocab_size=64))
    with pytest.raises(
        ValueError, match=r"stop_at_accuracy is 1.5; give a number from"
    ):
        experiment(stop_at_accuracy=1.5, evaluate_every=1)
    with pytest.raises(
        ValueError,
        match=r"stop_at_accuracy is 0.9 and evaluate_every is 0",
    ):
        experiment(stop_at_accuracy=0.9)
    assert experiment(stop_at_accuracy=0.9, evaluate_every=5).stop_at_accuracy == 0.9


def test_an_accuracy_without_a_validation_split_is_refused():
    task = FolderConfig(path="x", validation=0.0)
    model = dataclasses.replace(MODEL, vocab_size=task.vocab_size)
    fields = {"task": task, "model": model, "evaluate_every": 5}
    with pytest.raises(
        ValueError, match=r"stop_at_accuracy is 0.9 and the task has no validation"
    ):
        experiment(stop_at_accuracy=0.9, **fields)
    assert experiment(**fields).stop_at_accuracy is None


@pytest.mark.parametrize("name", ["learning_rate", "epsilon", "clip_norm"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_optimizer_numbers_above_zero(name, value):
    with pytest.raises(ValueError, match=rf"^{name} is .*; give a number above 0$"):
        OptimizerConfig(**{name: value})


@pytest.mark.parametrize("name", ["decay_fraction", "final_fraction"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_optimizer_shares(name, value):
    with pytest.raises(ValueError, match=rf"^{name} is .*; give a number from 0 to 1$"):
        OptimizerConfig(**{name: value})


@pytest.mark.parametrize("name", ["beta1", "beta2"])
@pytest.mark.parametrize("value", [-0.1, 1, 1.0, 1 - 1e-9, 1.1, float("nan")])
def test_betas_are_below_1_in_float32(name, value):
    message = rf"^{name} is .*; give a number from 0 to 0.9999999$"
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**{name: value})
    for fine in (0, 0.0, 0.9999999):
        assert getattr(OptimizerConfig(**{name: fine}), name) == fine


NUMBERS = ("learning_rate", "epsilon", "clip_norm", "weight_decay")


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    "value", [1e-50, 1e-39, 1e39, pytest.param(10**400, id="huge")]
)
def test_optimizer_numbers_are_the_same_in_float32(name, value):
    message = rf"^{name} is .*, which float32 cannot hold; give .* 1.2e-38 to 3.4e\+38$"
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**{name: value})
    for fine in (1.2e-38, 3.4e38):
        assert getattr(OptimizerConfig(**{name: fine}), name) == fine


def test_the_rest_of_an_optimizer():
    with pytest.raises(ValueError, match=r"warmup_steps is -1; give a whole number, 0"):
        OptimizerConfig(warmup_steps=-1)
    with pytest.raises(ValueError, match=r"warmup_steps is 10+; give .* below 2\^31"):
        OptimizerConfig(warmup_steps=10**40)
    config = OptimizerConfig()
    # A user's file may set this; here beartype would refuse it first.
    object.__setattr__(config, "schedule", "cosin")
    with pytest.raises(ValueError, match=r"schedule is 'cosin'; choose one of const"):
        config.__post_init__()
    with pytest.raises(ValueError, match=r"weight_decay is -0.1; give 0 or more"):
        OptimizerConfig(weight_decay=-0.1)
    assert OptimizerConfig(clip_norm=None, weight_decay=0.0, warmup_steps=0)


@pytest.mark.parametrize("name", ["data", "fsdp", "tensor", "expert"])
@pytest.mark.parametrize("value", [0, -2])
def test_mesh_axes_have_devices(name, value):
    with pytest.raises(ValueError, match=rf"^{name} is {value}; give a whole"):
        MeshConfig(**{name: value})


def test_defaults_of_a_mesh_take_all_devices():
    assert MeshConfig() == MeshConfig(data=None, fsdp=1, tensor=1)


@pytest.mark.parametrize("kind", [ExperimentConfig, OptimizerConfig, MeshConfig])
def test_configs_are_frozen_and_keyword_only(kind):
    assert all(field.kw_only for field in dataclasses.fields(kind))
    with pytest.raises(dataclasses.FrozenInstanceError):
        experiment().steps = 3


@pytest.mark.parametrize(
    "name", ["/tmp/x", "../x", "a/b", "a\\b", ".", "..", " ", "-x", "--json"]
)
def test_names_are_no_paths_or_options(name):
    with pytest.raises(ValueError, match=r"^name is '.*'; give a plain folder name"):
        experiment(name=name)


def test_names_are_short_and_printable():
    for name in ("a\nb", "\x1b[31m", "a\0", "\udcff"):
        with pytest.raises(ValueError, match=r"^name '.*' has control characters; gi"):
            experiment(name=name)
    with pytest.raises(ValueError, match=r"^name 'ü{20}'... is longer than 200 bytes;"):
        experiment(name="ü" * 101)
    for name in ("ü" * 100, "my run", ".hidden", "a-1.5_b"):
        assert experiment(name=name).name == name


def test_steps_can_be_counted():
    with pytest.raises(
        ValueError, match=r"^steps is 2147483648; give a .* below 2\^31"
    ):
        experiment(steps=2**31)
