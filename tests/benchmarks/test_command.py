import json
import re
from pathlib import Path

import pytest

from memzoo.benchmarks import command
from memzoo.benchmarks.command import BenchConfig, command_line, run
from memzoo.benchmarks.environments import PeerMissingError
from memzoo.benchmarks.gpu import GpuResult
from memzoo.benchmarks.runner import Results
from memzoo.errors import MemzooError


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("rounds", 0, "at least 1 round"),
        ("wall_rounds", -1, "0 leaves the wall time out"),
        ("minimum_seconds", 0.0, "give a time above 0, 3600 or less"),
        ("minimum_seconds", float("nan"), "give a time above 0, 3600 or less"),
        ("minimum_seconds", float("inf"), "give a time above 0, 3600 or less"),
        ("seed", -1, "give 0 or more, below 2"),
        ("seed", 2**32, "give 0 or more, below 2"),
        ("chunk_size", 0, "or leave it out"),
    ],
)
def test_settings_out_of_range_are_refused(field, value, message):
    with pytest.raises(ValueError, match=f"{field} is {value}; .*{message}"):
        BenchConfig(**{field: value})


@pytest.mark.parametrize("names", ["", " ", "delta,,attention", "op,"])
@pytest.mark.parametrize("option", ["rows", "layers", "prefill"])
def test_an_empty_name_is_refused_before_anything_is_measured(option, names):
    with pytest.raises(MemzooError, match=f"^{option} is .*empty"):
        run(BenchConfig(**{option: names}))


def test_a_page_of_layers_is_refused():
    with pytest.raises(ValueError, match="the page is for operations"):
        BenchConfig(layers="all", markdown=Path("x.md"))


def test_layers_on_a_gpu_are_refused():
    with pytest.raises(ValueError, match="gpu is on; whole layers"):
        BenchConfig(layers="all", gpu=True)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"gpu": True, "wall_rounds": 5}, "wall_rounds is for a CPU; leave it out"),
        ({"gpu": True, "growth": False}, "growth is for a CPU; leave it out, or gpu"),
        ({"prefill": "op", "rows": "delta"}, "rows is delta; .* out, or prefill"),
        ({"prefill": "op", "form": "scan"}, "form is scan; it is for operations"),
        ({"layers": "all", "chunk_size": 9}, "chunk_size is 9; .* leave it out, or la"),
        ({"layers": "all", "wall_rounds": 0}, "wall_rounds is 0; it is for operations"),
    ],
)
def test_what_would_not_be_read_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        BenchConfig(**fields)


def test_a_gpu_has_peers_of_its_own(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        command, "prepare", lambda folder, peers, python, announce: asked.extend(peers)
    )
    assert run(BenchConfig(prepare=True, gpu=True, peers=tmp_path)) == 0
    assert asked == ["torch", "fla", "titans"]


def test_the_page_of_a_gpu_is_written_as_rows_are_found(tmp_path, monkeypatch, capsys):
    page = tmp_path / "results" / "gpu.md"

    def stand_in(rows, *, found, versions, **_):
        versions["device"] = "Card"
        found(GpuResult(row=rows[0], failure="first"))
        assert "first" in page.read_text() and "second" not in page.read_text()
        found(GpuResult(row=rows[1], failure="second"))

    monkeypatch.setattr(command, "require", lambda folder, peers: None)
    monkeypatch.setattr(command, "measure_gpu", stand_in)
    config = BenchConfig(gpu=True, rows="attention", markdown=page)
    # Not everything that was asked for was measured.
    assert run(config) == 1
    assert "second" in page.read_text() and "device Card" in page.read_text()
    assert "Card:" in capsys.readouterr().out


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


def test_without_a_terminal_every_step_is_a_line(monkeypatch, capsys):
    def plan(plan, advance):
        advance("preparing memzoo delta:2048")
        advance("round 1/7: fla [delta:2048]")
        return Results(rows=(), growth=(), versions={}, wall_cores=2)

    monkeypatch.setattr(command, "require", lambda folder, peers: None)
    monkeypatch.setattr(command, "run_plan", plan)
    assert run(BenchConfig(rows="delta")) == 0
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"1/\d+  0 s  preparing memzoo delta:2048", first)
    assert re.fullmatch(
        r"2/\d+  0 s  round 1/7: fla \[delta:2048\]  \(about \d+ s left\)", second
    )


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
