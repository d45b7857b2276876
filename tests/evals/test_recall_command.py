"""`memzoo recall`: the task of `--task`, its flags, and the tables."""

import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from memzoo.commands import run_command
from memzoo.errors import MemzooError
from memzoo.evals import recall_command
from memzoo.evals.page import Section
from memzoo.evals.recall_command import RecallOptions, options_of_task
from memzoo.evals.recall_config import RecallConfig
from memzoo.evals.results import read_results
from memzoo.evals.table import Table, column
from memzoo.parsing import parse

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


@pytest.fixture(autouse=True)
def modules(monkeypatch):
    """Unload modules and forget their folders after a test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("my_", "outside_")):
            del sys.modules[name]


def read(*arguments):
    default = options_of_task(arguments)
    return parse(RecallOptions, [*arguments], command="recall", default=default).config


@pytest.mark.parametrize("form", [["2,4"], ["2", "4"]])
def test_flags_of_the_task_stand_beside_those_of_the_sweep(form):
    arguments = ["--layers", "attention,retnet", "--num-pairs", *form]
    config = read(*arguments, "--learning-rates", "1e-2,3e-3", "--json")
    assert config.layers == ("attention", "retnet")
    assert config.task.num_pairs == (2, 4)
    assert config.learning_rates == (1e-2, 3e-3) and config.json


@pytest.mark.parametrize(
    "arguments",
    [
        ["--task", "needle", "--lengths", "64,128"],
        ["--lengths", "64,128", "--task=needle"],
        ["--task", "mqar", "--task", "needle", "--lengths", "64,128"],
    ],
)
def test_the_last_task_that_is_named_gives_the_flags(arguments):
    assert read(*arguments).task.lengths == (64, 128)


def test_help_shows_the_flags_of_the_task(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    with pytest.raises(SystemExit):
        read("--task", "set_disjointness", "--help")
    said = capsys.readouterr().out
    assert "--sizes INT:INT,INT:INT,... " in said and "--layers" in said
    assert "(default: 1:2,2:4,4:2,4:16,16:4)" in said
    assert "--num-pairs" not in said
    config = read("--task", "set_disjointness", "--sizes", "1:2,30:4")
    assert config.task.sizes == ((1, 2), (30, 4))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "needel"], "task is 'needel'; did you mean needle?"),
        (["--task", "needle", "--num-pairs", "4"], "unknown option --num-pairs"),
        (
            ["--task", "needle", "--length", "5"],
            "length is 5; with value_length 7 give",
        ),
        (["--num-pairs", "99"], "num_pairs is 99; with num_passes 1 and length 64"),
        (
            ["--task", "memzoo.models.retnet:RetNetConfig"],
            ".*:RetNetConfig is not a task",
        ),
        (["--task", "a.py:X"], "a.py is not a Python file; give one that exists"),
        (["--task"], "--task needs a value; "),
    ],
)
def test_tasks_and_flags_that_are_not_there_are_one_line(arguments, said):
    with pytest.raises(MemzooError, match=f"^{said}") as refusal:
        read(*arguments)
    assert "\n" not in str(refusal.value)


def test_a_task_from_outside_has_defaults_and_names_of_its_own(tmp_path):
    head = "from dataclasses import dataclass\n"
    head += "from memzoo.evals.recall_task import RecallTask\n"
    body = "\n@dataclass(frozen=True, kw_only=True)\nclass {}(RecallTask):\n    {}\n"
    text = head + body.format("Bare", "size: int") + body.format("Same", "width: int=1")
    (tmp_path / "outside_tasks.py").write_text(text)
    for name, said in (
        ("Bare", "outside_tasks:Bare cannot be made without arguments .*'size'.; give"),
        ("Same", "task .*:Same' has a field 'width', which is already an option"),
    ):
        with pytest.raises(MemzooError, match=said):
            read("--task", f"{tmp_path}/outside_tasks.py:{name}")


def test_the_tables_of_the_page_are_printed_or_its_rows(monkeypatch, capsys):
    table = Table(title="T", columns=[column("a")], rows=[("1",)])
    done = SimpleNamespace(
        page=Path("somewhere/report.html"),
        measured=SimpleNamespace(rows=[{"metric": "accuracy"}]),
        findings=SimpleNamespace(sections=[Section(title="S", parts=["<i>", table])]),
    )
    monkeypatch.setattr(recall_command, "recall", lambda config: done)
    config = RecallConfig(layers=("attention",))
    assert recall_command.run(config) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "T" and lines[-1] == "somewhere/report.html"
    assert not any("<i>" in line for line in lines)
    assert recall_command.run(dataclasses.replace(config, json=True)) == 0
    assert json.loads(capsys.readouterr().out) == [{"metric": "accuracy"}]


def test_a_task_and_a_layer_of_the_user_are_compared(tmp_path, capsys):
    """Each is one file; they are trained, read after training, tabulated and drawn."""
    arguments = [
        *("--task", f"{EXAMPLES}/my_task.py:MyRecall", "--hops", "1", "--nodes", "4"),
        *("--read-nodes", "6", "--layers", f"{EXAMPLES}/my_layer.py:MyLayerConfig"),
        *("--width", "8", "--depth", "1", "--seeds", "0", "--learning-rates", "1e-2"),
        *("--steps", "2", "--batch-size", "8", "--evaluate-every", "2"),
        *("--evaluation-examples", "8", "--output", str(tmp_path)),
    ]
    assert run_command("recall", arguments) == 0
    out = capsys.readouterr().out
    assert "hops 1, 9 tokens, width 8, chance 0.250" in out
    assert "hops 1, 13 tokens, width 8, chance 0.167" in out
    assert "my_layer:MyLayerConfig" in out
    rows = read_results(tmp_path / "recall" / "results.json")
    assert {row["layer"] for row in rows} == {"my_layer:MyLayerConfig"}
    assert {row["setting"].get("split") for row in rows} == {None, "test"}
    page = (tmp_path / "recall" / "report.html").read_text()
    assert "<h1>Links, compared</h1>" in page and "Read after training" in page
    run = tmp_path / "recall" / "my_layer.MyLayerConfig" / "hops-1-width-8"
    assert (run / "rate-0.01-seed-0" / "config.json").exists()
    # The same command trains nothing again.
    assert run_command("recall", arguments) == 0
    assert "1 of 1 trainings are done already" in capsys.readouterr().err


def test_the_example_asks_for_what_its_links_say(tmp_path):
    task = recall_command.recall_task(f"{EXAMPLES}/my_task.py:MyTaskConfig").task
    batch = task.build("validation").examples(np.arange(20))
    for tokens, target in zip(batch.tokens, batch.targets[:, 0], strict=True):
        links = dict(zip(tokens[:-1:2].tolist(), tokens[1:-1:2].tolist(), strict=True))
        node = int(tokens[-1])
        for _ in range(task.hops):
            node = links[node]
        assert node == target
