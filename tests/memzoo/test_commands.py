"""The commands as a user calls them: a tiny experiment end to end, and errors."""

import json
import sys

import pytest

from memzoo.__main__ import main
from memzoo.data import corpus
from memzoo.train.writing import SaveError

EXPERIMENT = """
from memzoo.configs.experiment import ExperimentConfig, OptimizerConfig
from memzoo.data.mqar import MqarConfig
from memzoo.models.attention import AttentionConfig
from memzoo.models.block import Group
from memzoo.models.language_model import LanguageModelConfig

config = ExperimentConfig(
    name="tiny",
    model=LanguageModelConfig(
        vocab_size=32,
        width=16,
        pattern=(Group(layers=(AttentionConfig(num_heads=2),)),),
    ),
    task=MqarConfig(vocab_size=32, length=16, num_pairs=4),
    optimizer=OptimizerConfig(warmup_steps=2),
    steps=20,
    batch_size=4,
    evaluation_examples=8,
)
"""
LAYER = "--model.pattern.0.layers.0"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with an experiment, where runs are made."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "tiny_experiment.py").write_text(EXPERIMENT)
    return folder


@pytest.fixture(autouse=True)
def working(place, monkeypatch):
    """Call the commands in this folder."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "120")


def train(call, *words):
    code, out, _ = call("train", *words, "--mesh.data", "1", "--no-progress", "--json")
    assert code == 0
    return json.loads(out)


@pytest.fixture(scope="module")
def trained(place):
    """Run of 20 steps, from the command line."""
    words = ["train", str(place / "tiny_experiment.py"), "--runs", str(place / "runs")]
    before = list(sys.path)
    assert main([*words, "--mesh.data", "1", "--no-progress"]) == 0
    sys.path[:] = before
    return place / "runs" / "tiny"


def last_step(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return max(json.loads(line)["step"] for line in lines)


def test_a_run_is_trained_extended_and_copied(call, trained):
    record = json.loads((trained / "config.json").read_text())
    assert record["status"] == "done" and record["command"][:2] == ["memzoo", "train"]
    # A second call finds the run finished.
    before = (trained / "metrics.jsonl").read_text()
    said = train(call, "tiny_experiment.py")
    assert (said["run"], said["step"], said["status"]) == ("runs/tiny", 20, "done")
    assert (trained / "metrics.jsonl").read_text() == before
    # With more steps it continues from step 20.
    said = train(call, "tiny_experiment.py", "--steps", 30)
    assert (said["step"], last_step(trained)) == (30, 30)
    assert (trained / "metrics.jsonl").read_text().startswith(before)
    # The folder of the run is accepted as CONFIG.
    assert train(call, "runs/tiny")["step"] == 30
    assert train(call, "runs/tiny", "--steps", 31)["step"] == 31
    # Its config.json starts a new run.
    said = train(call, "runs/tiny/config.json", "--name", "other", "--steps", 2)
    assert (said["run"], said["step"]) == ("runs/other", 2)
    said = train(call, "runs/tiny", "--name", "third", "--steps", 1)
    assert (said["run"], said["step"]) == ("runs/third", 1)
    assert last_step(trained) == 31


def test_a_moved_run_goes_on_where_it_lies(call, trained, place):
    (place / "elsewhere").mkdir()
    target = place / "elsewhere" / "moved"
    trained.rename(target)
    try:
        assert train(call, "elsewhere/moved")["run"] == "elsewhere/moved"
    finally:
        target.rename(trained)


def test_one_line_says_how_it_went(call, trained):
    code, out, _ = call("train", "runs/tiny", "--mesh.data", "1")
    assert code == 0
    first, second = out.splitlines()
    assert first.startswith("runs/tiny: done at step ") and "accuracy 0." in first
    assert second == "more results: memzoo eval runs/tiny"


def test_eval(call, trained):
    code, out, _ = call("eval", "runs/tiny", "--json")
    rows = json.loads(out)
    assert code == 0 and rows == json.loads((trained / "results.json").read_text())
    assert {row["metric"] for row in rows} >= {"accuracy", "loss"}
    code, out, _ = call("eval", "runs/tiny/config.json", "--examples", 4)
    assert code == 0 and "4 pairs, 16 tokens" in out


def test_contexts_are_read_again(call, place):
    words = ["--repeat-context", 2, "--name", "again"]
    assert train(call, "tiny_experiment.py", *words, "--steps", 2)["step"] == 2
    record = json.loads((place / "runs/again/config.json").read_text())
    task = record["config"]["task"]
    assert (task["type"], task["times"], task["task"]["type"]) == ("repeat", 2, "mqar")
    # The run repeats its context; the flag can change the number.
    assert train(call, "runs/again", "--steps", 3)["step"] == 3
    assert train(call, "runs/again", *words, "--steps", 4)["step"] == 4
    code, out, _ = call("eval", "runs/again", "--json")
    assert code == 0 and {row["setting"]["length"] for row in json.loads(out)} == {32}
    words = ["--repeat-context", 2, "--no-repeat-question"]
    code, out, _ = call("eval", "runs/again", "--json", *words)
    assert code == 0 and {row["setting"]["length"] for row in json.loads(out)} == {24}


def test_generate(call, trained):
    words = ["generate", "runs/tiny", "--prompt", "2,17,4,18,2", "--tokens", 5]
    code, out, _ = call(*words, "--temperature", 0)
    assert code == 0
    tokens = [int(word) for word in out.split(",")]
    assert len(tokens) == 5 and all(0 <= token < 32 for token in tokens)
    assert call(*words, "--temperature", 0)[1] == out
    assert call(*words, "--temperature", 0, "--prefix", "no")[1] == out
    code, _, err = call(*words, "--prefix", "yes")
    assert code != 0 and "no layer of the model accepts a prefix" in err


def test_describe(call):
    code, out, _ = call("describe", "tiny_experiment.py", "--json")
    said = json.loads(out)
    assert code == 0 and said["name"] == "tiny"
    # Embedding, final norm, and a block: norm and four projections.
    assert said["parameters"] == 32 * 16 + 16 + 16 + 4 * 16 * 16


def test_list(call):
    code, out, _ = call("list", "--json")
    assert code == 0 and len(json.loads(out)) >= 7


RUN_REFUSED = [
    (
        "generate runs/tiny",
        2,
        "prompt '' is not a list of token numbers, which this run",
    ),
    ("generate runs/tiny --prompt a,b", 2, "prompt 'a,b' is not a list of token numb"),
    ("generate runs/tiny --prompt 99", 2, "token 99 of the prompt is not in the vocab"),
    ("generate runs/tiny --checkpoint 3", 4, "run runs/tiny has no checkpoint of step"),
    ("generate runs/tiny --temperature -1", 2, "temperature is -1.0; give a fin"),
    ("eval runs/tiny --checkpoint 3", 4, "run runs/tiny has no checkpoint of step 3; "),
    (
        "eval runs/tiny --split tset",
        2,
        "--split is 'tset'; choose one of train, valida",
    ),
    ("eval runs/tiny --examples 0", 2, "examples is 0; give 1 or more"),
    (
        "eval tiny_experiment.py",
        4,
        "tiny_experiment.py is a file, not a run's folder; give the folder",
    ),
    ("eval tiny", 4, "tiny is not a run; did you mean runs/tiny?"),
    ("generate tiny", 4, "tiny is not a run; did you mean runs/tiny?"),
    (f"train runs/tiny {LAYER}.num-heads 4", 2, "the run was started with model.patte"),
    ("train runs/tiny --task.seed 4", 4, "the data has changed: seed was 0 and is 4; "),
]


@pytest.mark.parametrize(("words", "code", "line"), RUN_REFUSED, ids=lambda _: "")
def test_refusals_about_a_run(call, trained, words, code, line):
    assert_one_line(call(*words.split()), code, line)


def assert_one_line(result, code, line):
    found, out, err = result
    assert err.startswith(f"memzoo: {line}"), err
    assert err.count("\n") == 1 and out == ""
    assert found == code


def experiment_with(tmp_path, task, name):
    body = EXPERIMENT.replace(
        "task=MqarConfig(vocab_size=32, length=16, num_pairs=4)", f"task={task}"
    ).replace("vocab_size=32,", "vocab_size=320,")
    heads = "from memzoo.data.text import FolderConfig, TextConfig\n"
    heads += "from memzoo.data.tfds import TfdsConfig\n"
    (tmp_path / f"{name}.py").write_text(heads + body)


@pytest.mark.parametrize(
    ("task", "line"),
    [
        ("FolderConfig(path='nowhere', length=16)", "nowhere"),
        ("TfdsConfig(name='nosuchdataset', length=16)", "nosuchdataset"),
    ],
)
def test_missing_data_is_one_line(call, tmp_path, monkeypatch, task, line):
    monkeypatch.chdir(tmp_path)
    name = f"without_data_{task.partition('(')[0].lower()}"
    experiment_with(tmp_path, task, name)
    code, out, err = call("train", f"{name}.py", "--mesh.data", "1")
    assert code == 2 and line in err and "; " in err
    assert err.count("\n") == 1 and out == ""
    assert not (tmp_path / "runs").exists()


OWN_MEMORY = """
from dataclasses import dataclass
from memzoo.models.delta_net import DeltaNetConfig
from memzoo.models.mixture_of_memories import MixtureOfMemoriesConfig

@dataclass(frozen=True)
class OwnConfig:
    num_heads: int = 2

    def build(self, width, rngs, *, layer_index, depth):
        plain = DeltaNetConfig(num_heads=self.num_heads)
        return plain.build(width, rngs, layer_index=layer_index, depth=depth)
"""


@pytest.mark.parametrize(
    ("memory", "flag", "line"),
    [
        ("OwnConfig()", "num-heads 4", ""),
        ("OwnConfig()", "num-heads 0", "num_heads is 0; give 1 or more"),
        ("AttentionConfig(num_heads=2)", "num-heads 1", "Attention, not an Associat"),
    ],
)
def test_a_mixture_of_memories_of_ones_own(call, tmp_path, memory, flag, line):
    layer = f"MixtureOfMemoriesConfig(memory={memory})"
    body = EXPERIMENT.replace("AttentionConfig(num_heads=2)", layer)
    path = tmp_path / f"{tmp_path.name}.py"
    path.write_text(OWN_MEMORY + body)
    code, out, err = call("describe", path, *f"{LAYER}.memory.{flag}".split())
    assert (code, line in err) == (2 if line else 0, True)
    assert out.count("mixture_of_memories") == (0 if line else 1)
    assert err.count("\n") == (1 if line else 0)


def test_an_obstacle_in_the_place_of_runs(call, tmp_path, place):
    obstacle = tmp_path / "runs"
    obstacle.write_text("here already")
    code, _, err = call(
        "train", "tiny_experiment.py", "--runs", obstacle, "--mesh.data", "1"
    )
    assert code == SaveError.exit_code and str(obstacle) in err
    assert err.count("\n") == 1
    assert obstacle.read_text() == "here already"


def test_text_is_generated_as_text(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    for index in range(12):
        (tmp_path / "texts" / f"{index}.txt").write_text("Größe und Güte. " * 30)
    task = "FolderConfig(path='texts', length=16, validation=0.3, test=0.2)"
    experiment_with(tmp_path, task, "tiny_text")
    assert train(call, "tiny_text.py", "--steps", 2)["step"] == 2
    words = ["generate", "runs/tiny", "--prompt", "Grö", "--tokens", 7, "--top-k", 3]
    code, out, err = call(*words)
    assert (code, err) == (0, "") and out.startswith("Grö") and out.endswith("\n")
    assert corpus.VOCAB_SIZE == 257
