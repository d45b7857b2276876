"""Runs in Python: train, load, read, and continue."""

import dataclasses
import inspect

import numpy as np
import pytest

import memzoo
from memzoo.configs.experiment import ExperimentConfig, MeshConfig, OptimizerConfig
from memzoo.data.mqar import MqarConfig
from memzoo.data.text import FolderConfig
from memzoo.errors import InputError, MemzooError
from memzoo.models.language_model import LanguageModelConfig
from memzoo.models.pattern import pattern_of
from memzoo.models.titans_lmm import TitansLMMConfig
from memzoo.run import train

MEMORY = TitansLMMConfig(num_heads=1, memory_depth=1, persistent_tokens=0)


def experiment(folder):
    return ExperimentConfig(
        name="tiny",
        model=LanguageModelConfig(
            vocab_size=320, width=8, pattern=pattern_of([MEMORY, "linear_attention"])
        ),
        task=FolderConfig(path=str(folder), pattern="*.txt", length=16, validation=0.5),
        optimizer=OptimizerConfig(warmup_steps=0),
        mesh=MeshConfig(data=1),
        steps=2,
        batch_size=2,
        evaluation_examples=2,
    )


def untyped(function):
    """Return the function as a user calls it, without the type checks of the tests."""
    return inspect.unwrap(getattr(function, "__func__", function))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    text = "to be or not to be, that is the question. " * 40
    for number in range(4):
        (folder / f"{number}.txt").write_text(text + str(number))
    return folder


@pytest.fixture(scope="module")
def run(folder):
    return memzoo.train(experiment(folder), runs=folder / "runs", progress=False)


def test_a_run_is_trained_and_loaded(run, folder):
    assert run.step == 2 and run.folder == folder / "runs" / "tiny"
    again = memzoo.load(run.folder)
    assert again.config == run.config
    np.testing.assert_array_equal(again.model.embedding[...], run.model.embedding[...])


def test_text_is_generated(run):
    pieces = list(run.generate("to be", max_tokens=4, temperature=0.0))
    assert pieces == list(run.generate("to be", max_tokens=4, temperature=0.0))
    assert not "".join(pieces).startswith("to be")
    with pytest.raises(InputError, match="max_tokens is 0"):
        run.generate("to be", max_tokens=0)


def test_a_task_is_evaluated(run):
    found = run.evaluate()
    assert found == run.evaluate(run.config.task, examples=2)
    assert found.rows[0]["metric"] == "bits_per_byte" and found.rows[0]["value"] > 0
    with pytest.raises(InputError, match="the task has 8192 tokens and the model 320"):
        run.evaluate(MqarConfig(vocab_size=8192))


def test_a_text_read_in_pieces_is_the_whole(run):
    text = "to be or not to be"
    whole = run.read(text)
    first = run.read(text[:7])
    second = run.read(text[7:], first)
    assert whole.bits.shape == whole.surprise.shape == (len(text),)
    for name in ("bits", "surprise"):
        joined = np.concatenate([getattr(first, name), getattr(second, name)])
        np.testing.assert_allclose(joined, getattr(whole, name), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        second.state["layers.1"].memory, whole.state["layers.1"].memory, atol=1e-5
    )
    with pytest.raises(InputError, match="the text is empty"):
        run.read("")
    with pytest.raises(InputError, match="max_length is 9, but the document has begun"):
        run.read(text, first, max_length=9)


def test_a_run_starts_from_another(run, folder):
    config = dataclasses.replace(experiment(folder), name="second", seed=1)
    second = memzoo.train(
        config, runs=folder / "runs", start_from=run.folder, steps=1, progress=False
    )
    assert second.step == 1 and second.config.start_from == str(run.folder)
    moved = np.abs(second.model.embedding[...] - run.model.embedding[...])
    # One step changes no number much; another seed's are 0.02 apart.
    assert 0 < np.max(moved) < 5e-3


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"step": 3}, "an experiment has no field 'step'; did you mean steps?"),
        ({"max_steps": 3}, "no field 'max_steps'; it is called steps here"),
        ({"zzz": 3}, "an experiment has no field 'zzz'; it has batch_size, "),
        (
            {"learning_rate": 1},
            r"optimizer has it: give \*\*{'optimizer.learning_rate': ",
        ),
        ({"lr": 1}, r"'lr'; optimizer has it: give \*\*{'optimizer.learning_rate': "),
        ({"optimizer.learning_rate": -1}, "learning_rate is -1; give a number above 0"),
        ({"optimizer.lr": 1}, "OptimizerConfig has no field 'lr'"),
        ({"runs": 3}, "runs is an int; give a folder"),
    ],
)
def test_what_cannot_be_trained_is_refused(folder, changes, line):
    with pytest.raises(InputError, match=line):
        untyped(train)(experiment(folder), **changes)


def test_an_unknown_preset_is_refused():
    with pytest.raises(MemzooError, match="no-such-preset"):
        memzoo.train("no-such-preset")


def test_a_run_with_more_steps_is_refused(run, folder):
    changes = {"steps": 1, "runs": folder / "runs", "progress": False}
    with pytest.raises(
        InputError, match=r"steps is 1, and .*tiny is at step 2; give it"
    ):
        memzoo.train(run.config, **changes)


def test_a_trained_run_is_returned_in_silence(run, folder, capsys):
    again = memzoo.train(run.config, runs=folder / "runs", progress=False)
    assert again.step == 2
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"split": "dev"}, "split is 'dev'; give one of train, validation, test"),
        ({"task": "mqar"}, "task is 'mqar'; give the config of a task"),
        ({"task": MqarConfig}, "task is <class .*; give the config of a task"),
        ({"examples": "8"}, "examples is '8'; give a whole number"),
    ],
)
def test_evaluate_refuses_wrong_types(run, options, line):
    with pytest.raises(InputError, match=line):
        untyped(run.evaluate)(run, **options)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"prompt": [1, 2]}, r"prompt is \[1, 2\]; give text"),
        ({"max_tokens": 2.5}, "max_tokens is 2.5; give a whole number"),
    ],
)
def test_generate_refuses_wrong_types(run, options, line):
    with pytest.raises(InputError, match=line):
        untyped(run.generate)(run, **options)


def test_runs_and_configs_of_wrong_types_are_refused(folder, run):
    with pytest.raises(InputError, match="config is a LanguageModelConfig; give an Ex"):
        untyped(train)(run.config.model)
    with pytest.raises(InputError, match="start_from is a Run; give the folder of a r"):
        untyped(train)(experiment(folder), start_from=run)
    with pytest.raises(InputError, match="folder is an int; give the folder of a run"):
        untyped(memzoo.load)(3)
    with pytest.raises(InputError, match="step is '2'; give a whole number"):
        untyped(memzoo.load)(run.folder, step="2")
