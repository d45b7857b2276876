"""The commands on runs that someone else made."""

import json
import sys

import pytest

from memzoo import commands
from memzoo.__main__ import main
from memzoo.configs.presets import PRESETS
from memzoo.configs.record import checksum
from memzoo.configs.serialise import to_json

RUN = "runs/foreign"


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Call a command in a folder with a run; return the exit code and its one line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    config = to_json(PRESETS["mqar-attention"]())
    config["task"] = {"type": "ends_the_process:Task"}
    record = {"schema": 1, "config": config, "checksum": checksum(config)}
    (tmp_path / RUN).mkdir(parents=True)
    (tmp_path / RUN / "config.json").write_text(json.dumps(record))
    body = "import sys\nopen('it_ran', 'w').close()\nsys.exit(0)\n"
    (tmp_path / "ends_the_process.py").write_text(body)

    def call(*words):
        code = main(list(words))
        said = capsys.readouterr()
        assert said.out == "" and said.err.count("\n") == 1
        return code, said.err

    return call


@pytest.mark.parametrize(
    ("command", "code"), [("train", 2), ("describe", 2), ("eval", 4), ("generate", 4)]
)
def test_code_that_a_run_names_is_run_on_trust_alone(call, tmp_path, command, code):
    where = f"memzoo: {RUN}/config.json: config.task is of type ends_the_process:Task, "
    for words in ([RUN], [RUN, "--no-trust"], [f"{RUN}/config.json"]):
        found, line = call(command, *words)
        assert found == code and line.startswith(
            where + "which is not part of memzoo: "
        )
        assert "add --trust if you trust that code" in line
    assert not (tmp_path / "it_ran").exists()
    found, line = call(command, RUN, "--trust")
    assert found == code and (tmp_path / "it_ran").exists()
    assert line.startswith(where + "which cannot be imported (SystemExit: 0); run in")


@pytest.mark.parametrize(("given", "code"), [(0, 1), (None, 1), ("why", 1), (7, 7)])
def test_code_that_ends_the_process_has_not_done_it(call, monkeypatch, given, code):
    def ends(arguments):
        raise SystemExit(given)

    monkeypatch.setitem(commands._COMMANDS, "list", ends)
    found, line = call("list")
    assert found == code
    assert line.startswith(f"memzoo: list was ended by sys.exit({given!r}) in ")
