"""Experiments as JSON: round trips, and all kinds of damage."""

import copy
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from memzoo.configs.presets import PRESETS
from memzoo.configs.serialise import from_json, near, to_json, type_name
from memzoo.data import TASKS
from memzoo.models import LAYERS
from memzoo.models.attention import AttentionConfig
from memzoo.models.block import Group

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
PRESET = PRESETS["mqar-gated-delta-net"]()
LAYER = "config.model.pattern.0.layers.0"


@pytest.fixture
def value():
    """Return a preset as JSON, to be damaged."""
    return json.loads(json.dumps(to_json(PRESET)))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_come_back_equal(name):
    config = PRESETS[name]()
    text = json.dumps(to_json(config), allow_nan=False)
    assert from_json(json.loads(text)) == config
    assert json.dumps(to_json(from_json(json.loads(text)))) == text


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_stored_by_their_registered_name(name, value):
    layer = LAYERS[name]()
    assert type_name(layer) == name
    model = dataclasses.replace(PRESET.model, pattern=(Group(layers=(layer,)),))
    stored = to_json(dataclasses.replace(PRESET, model=model))
    assert stored["model"]["pattern"][0]["layers"][0]["type"] == name
    assert from_json(stored).model.pattern[0].layers[0] == layer


@pytest.mark.parametrize("name", TASKS)
def test_tasks_are_stored_by_their_registered_name(name):
    assert {**LAYERS, **TASKS}[name] is TASKS[name], "a layer has the name of a task"
    required = {"folder": {"path": "texts"}, "tfds": {"name": "a_data_set"}}
    task = TASKS[name](**required.get(name, {}))
    vocab_size = max(1024, task.vocab_size)
    model = dataclasses.replace(PRESET.model, vocab_size=vocab_size)
    stored = to_json(dataclasses.replace(PRESET, task=task, model=model))
    assert stored["task"]["type"] == name
    assert from_json(json.loads(json.dumps(stored))).task == task


def test_mixed_settings_come_back_as_a_tuple(value):
    value["task"]["num_pairs"] = [4, 8]
    assert from_json(value).task.num_pairs == (4, 8)


def test_younger_fields_have_their_defaults(value):
    del value["optimizer"], value["mesh"], value["model"]["remat"]
    config = from_json(value)
    assert config.model.remat == "none" and config.mesh == PRESET.mesh


def test_whole_numbers_are_good_numbers(value):
    value["optimizer"]["learning_rate"] = 1
    assert from_json(value).optimizer.learning_rate == 1.0


def test_a_model_may_say_what_it_is(value):
    value["model"]["type"] = "memzoo.models.language_model:LanguageModelConfig"
    assert from_json(value) == PRESET


def damage(value, path, new):
    """Return `value` with something else at a path; `...` removes it."""
    *inner, last = path
    place = value
    for key in inner:
        place = place[key]
    if new is ...:
        del place[last]
    else:
        place[last] = new
    return value


IN_LAYER = ("model", "pattern", 0, "layers", 0)
REFUSED = [
    (("stepz",), 3, "^config has no field 'stepz'; did you mean steps"),
    (("qqq",), 3, "^config has no field 'qqq'; known: batch_size, checkpoint_every, "),
    (("task",), ..., "^config lacks the field 'task'; add it$"),
    (("model", "width"), ..., "^config.model lacks the field 'width'; add it$"),
    (("steps",), "10", "^config.steps is '10'; it must be int$"),
    (("steps",), True, "^config.steps is True; it must be int$"),
    (("steps",), 1.5, "^config.steps is 1.5; it must be int$"),
    (("steps",), None, "^config.steps is None; it must be int$"),
    (("steps",), 0, "^config: steps is 0; give a whole number, 1 or more$"),
    (("name",), 3, "^config.name is 3; it must be str$"),
    (("optimizer",), [], r"^config.optimizer is \[\]; it must be an object$"),
    (("optimizer", "beta1"), "x", "^config.optimizer.beta1 is 'x'; it must be float$"),
    (("optimizer", "beta1"), 2, "^config.optimizer: beta1 is 2.0; give a number from"),
    (
        ("optimizer", "schedule"),
        "cosin",
        "^config.optimizer.schedule is 'cosin'; choose one of constant, cosine, linear",
    ),
    (("optimizer", "type"), "attention", "^config.optimizer cannot be of type 'att"),
    (("model", "dtype"), ["float32"], r"^config.model.dtype is \['float32'\]; choose"),
    (("model", "tie_embeddings"), 1, "^config.model.tie_embeddings is 1; it must be"),
    (("model", "pattern"), {}, r"^config.model.pattern is {}; it must be a list$"),
    (("model", "pattern"), [], "^config.model: pattern is empty; give at least one"),
    (("model", "pattern", 0, "repeats"), 0, "^config.model.pattern.0: repeats is 0; "),
    (IN_LAYER, [], rf"^{LAYER} is \[\]; it must be an object$"),
    ((*IN_LAYER, "type"), ..., f"^{LAYER} lacks the field 'type'; known: armt, "),
    ((*IN_LAYER, "type"), 7, f"^{LAYER}.type is 7; it must be the name of a layer"),
    (
        (*IN_LAYER, "type"),
        "gated_deltanet",
        f"^{LAYER} is of unknown type 'gated_deltanet'; did you mean gated_delta_net",
    ),
    ((*IN_LAYER, "type"), "zz", f"^{LAYER} is of unknown type 'zz'; known: armt, "),
    ((*IN_LAYER, "type"), "mqar", f"^{LAYER} cannot be of type 'mqar'; known: armt, "),
    ((*IN_LAYER, "num_headz"), 1, f"^{LAYER} has no field 'num_headz'; did you mean n"),
    ((*IN_LAYER, "num_heads"), "1", f"^{LAYER}.num_heads is '1'; it must be int$"),
    ((*IN_LAYER, "convolution_size"), 1, f"^{LAYER}: convolution_size is 1; give 0"),
    (("task", "type"), ..., "^config.task lacks the field 'type'; known: ballet, "),
    (("task", "type"), "mqr", "^config.task is of unknown type 'mqr'; did you mean mq"),
    (("task", "type"), "attention", "^config.task cannot be of type 'attention'; kn"),
    (("task", "num_pairs"), "four", "^config.task.num_pairs is 'four'; it must be int"),
    (("task", "num_pairs"), 999, "^config.task: num_pairs is 999; with num_passes 1"),
    (("task", "vocab_size"), 4096, "^config: model.vocab_size is 1024; give"),
    (
        (*IN_LAYER, "type"),
        "nosuch:Layer",
        f"^{LAYER} is of type nosuch:Layer, which is not part of memzoo: .* --trust",
    ),
    ((*IN_LAYER, "type"), "json:Nothing", "and the module json has no Nothing; use"),
    (
        (*IN_LAYER, "type"),
        "json:loads",
        "is of type json:loads, which is not a config; ",
    ),
    ((*IN_LAYER, "type"), ":X", "is of unknown type ':X'; known: "),
    ((*IN_LAYER, "type"), "a\nb:X", r"is of unknown type 'a\\nb:X'; known: "),
    (("task", "type"), "nosuch:Task", "^config.task is of type nosuch:Task, which i"),
    (("optimizer", "type"), "nosuch:O", "^config.optimizer is of type nosuch:O, whic"),
]


@pytest.mark.parametrize(("path", "new", "message"), REFUSED, ids=lambda _: "")
def test_damage_is_named(value, path, new, message):
    with pytest.raises(ValueError, match=message) as caught:
        from_json(damage(value, path, new))
    assert "\n" not in str(caught.value)


def places(value, path=()):
    """Yield every path in a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, item in items:
        yield from places(item, (*path, key))


@pytest.mark.parametrize("new", [None, [], {}, "x", -1, 0.5, True, [1, "x"], {"a": 1}])
def test_no_damage_is_any_other_error(value, new):
    """Any value at any path gives an experiment or a one-line ValueError."""
    refused = 0
    for path in list(places(value))[1:]:
        try:
            from_json(damage(copy.deepcopy(value), path, new))
        except ValueError as error:
            refused += 1
            assert str(error).startswith("config") and "\n" not in str(error)
    assert refused > 20


def test_what_is_nested_too_deep_is_refused(value):
    layer = {"type": "attention"}
    for _ in range(2000):
        layer = {"type": "mixture_of_memories", "memory": layer}
    for trust in (False, True):
        with pytest.raises(ValueError, match=r"^config is nested too deep; re"):
            from_json(damage(value, IN_LAYER, layer), trust=trust)


@pytest.mark.parametrize("new", [None, [], "x", 3])
def test_an_experiment_is_an_object(new):
    with pytest.raises(ValueError, match=r"^config is .*; it must be an object$"):
        from_json(new)


OUTSIDE = """
import dataclasses, sys
from memzoo.configs.presets import PRESETS
from memzoo.configs.serialise import from_json, to_json, type_name
from memzoo.models.block import Group
sys.path.append(sys.argv[1])
import my_layer
layer = my_layer.MyLayerConfig(num_heads=4)
assert type_name(layer) == "my_layer:MyLayerConfig"
preset = PRESETS["mqar-attention"]()
model = dataclasses.replace(preset.model, pattern=(Group(layers=(layer,)),))
config = dataclasses.replace(preset, model=model)
value = to_json(config)
assert from_json(value) == config
stored = value["model"]["pattern"][0]["layers"][0]
assert stored["type"] == "my_layer:MyLayerConfig"
stored["life"] = -1.0
try:
    from_json(value)
except ValueError as error:
    print(error)
"""


def test_a_layer_from_outside_is_stored_by_module_and_class():
    """Runs in a new process: type checking knows only the zoo's layers."""
    done = subprocess.run(
        [sys.executable, "-c", OUTSIDE, EXAMPLES],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout == f"{LAYER}: life is -1.0; give a number above 0\n"


def test_a_layer_inside_a_function_cannot_be_stored():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Hidden(AttentionConfig):
        pass

    with pytest.raises(
        ValueError, match=r"defined inside a function, .*; define it at"
    ):
        type_name(Hidden())


def test_near_names_what_is_close_or_all():
    assert near("stepz", ["steps", "name"]) == "; did you mean steps?"
    assert near("qqq", ["steps", "name"]) == "; known: name, steps"
