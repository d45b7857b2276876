import json
from pathlib import Path

import pytest

from memzoo.benchmarks import command
from memzoo.benchmarks.command import BenchConfig, command_line, run
from memzoo.benchmarks.environments import PeerMissingError
from memzoo.benchmarks.runner import Results


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("rounds", 0, "at least 1 round"),
        ("wall_rounds", -1, "0 leaves the wall time out"),
        ("minimum_seconds", 0.0, "give a positive time"),
        ("chunk_size", 0, "or leave it out"),
    ],
)
def test_settings_out_of_range_are_refused(field, value, message):
    with pytest.raises(ValueError, match=f"{field} is {value}; .*{message}"):
        BenchConfig(**{field: value})


def test_a_page_of_layers_is_refused():
    with pytest.raises(ValueError, match="the page is for operations"):
        BenchConfig(layers="all", markdown=Path("x.md"))


def test_layers_on_a_gpu_are_refused():
    with pytest.raises(ValueError, match="gpu is on; whole layers"):
        BenchConfig(layers="all", gpu=True)


def test_peers_of_the_rows_on_a_gpu_are_asked_for(tmp_path):
    with pytest.raises(PeerMissingError, match="no environment for fla under"):
        run(BenchConfig(peers=tmp_path, rows="delta", gpu=True))


def test_peers_that_are_absent_end_the_command_with_the_remedy(tmp_path):
    with pytest.raises(PeerMissingError, match="with --prepare"):
        run(BenchConfig(peers=tmp_path, rows="attention"))


def test_the_command_is_written_back_without_what_is_only_output():
    config = BenchConfig(
        rows="delta", rounds=5, growth=False, json=True, markdown=Path("x.md")
    )
    assert command_line(config) == "memzoo bench --rows delta --rounds 5 --no-growth"
    assert command_line(BenchConfig()) == "memzoo bench"


def test_prepare_makes_only_the_environments_of_the_rows(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        command, "prepare", lambda folder, peers, python, announce: asked.extend(peers)
    )
    assert run(BenchConfig(prepare=True, peers=tmp_path, rows="delta")) == 0
    assert asked == ["fla"]
    # Another form of ours needs none.
    assert run(BenchConfig(prepare=True, peers=tmp_path, rows="titans_mlp")) == 0
    assert asked == ["fla"]


def test_results_are_printed_as_json_and_written_as_a_page(
    tmp_path, monkeypatch, capsys
):
    empty = Results(rows=(), growth=(), versions={}, wall_cores=2)
    monkeypatch.setattr(command, "require", lambda folder, peers: None)
    monkeypatch.setattr(command, "run_plan", lambda plan, advance: empty)
    page = tmp_path / "results" / "ops.md"
    assert run(BenchConfig(json=True, markdown=page)) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == []
    assert "`memzoo bench`" in page.read_text()
