import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from memzoo.benchmarks import command
from memzoo.benchmarks.command import BenchConfig, command_line, run
from memzoo.benchmarks.environments import PeerMissingError
from memzoo.benchmarks.results import Measured, Results, RowResult
from memzoo.benchmarks.rows import CPU_ROWS


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("rounds", 0, "at least 1 round"),
        ("wall_rounds", -1, "give 0 to skip the wall time"),
        ("minimum_seconds", 0.0, "give a time above 0, 3600 or less"),
        ("minimum_seconds", float("nan"), "give a time above 0, 3600 or less"),
        ("minimum_seconds", float("inf"), "give a time above 0, 3600 or less"),
        ("seed", -1, "give 0 or more, below 2"),
        ("seed", 2**32, "give 0 or more, below 2"),
        ("chunk_size", 0, "or drop it"),
    ],
)
def test_settings_out_of_range_are_refused(field, value, message):
    with pytest.raises(ValueError, match=f"{field} is {value}; .*{message}"):
        BenchConfig(**{field: value})


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"gpu": True, "wall_rounds": 5}, "wall_rounds is only for a CPU; drop it"),
        ({"gpu": True, "growth": False}, "growth is only for a CPU; drop it, or drop"),
        ({"rows": "prompt", "form": "scan"}, "form is scan, which only operations use"),
        ({"rows": "layer", "chunk_size": 9}, "chunk_size is 9, which only operations"),
        ({"rows": "step", "wall_rounds": 0}, "wall_rounds is 0, which only operations"),
    ],
)
def test_what_would_not_be_read_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        run(BenchConfig(**fields))


@pytest.mark.parametrize(
    "fields, peers",
    [
        ({"rows": "delta"}, ["fla"]),
        ({"rows": "step"}, ["transformers"]),
        ({"gpu": True}, ["torch", "fla", "titans"]),
        # Another form of our operation needs no environment.
        ({"rows": "titans_mlp"}, []),
    ],
)
def test_prepare_makes_only_the_environments_of_the_rows(
    fields, peers, tmp_path, monkeypatch
):
    asked = []
    monkeypatch.setattr(
        command, "prepare", lambda folder, peers, python, announce: asked.extend(peers)
    )
    assert run(BenchConfig(prepare=True, peers=tmp_path, **fields)) == 0
    assert asked == peers


@pytest.mark.parametrize("gpu", [False, True])
def test_peers_that_are_absent_end_the_command_with_the_remedy(gpu, tmp_path):
    with pytest.raises(PeerMissingError, match=r"for fla under .*with --prepare"):
        run(BenchConfig(peers=tmp_path, rows="delta", gpu=gpu))


def test_the_command_is_written_back_without_what_is_only_output():
    config = BenchConfig(
        rows="delta", rounds=5, growth=False, json=True, markdown=Path("x.md")
    )
    assert command_line(config) == "memzoo bench --rows delta --rounds 5 --no-growth"
    assert command_line(BenchConfig()) == "memzoo bench"


def row_result(failure=None):
    return RowResult(
        row=CPU_ROWS[0], ours=Measured(), theirs=Measured(), failure=failure
    )


@pytest.fixture
def runs(monkeypatch):
    """Return `runs(*results)`, a run that finds these results one by one."""

    def stand_in(*stages):
        def run_plan(plan, commands, advance, found):
            advance("preparing memzoo delta:2048")
            for stage in stages:
                found(stage)
            advance("round 1/7: fla [delta:2048]")
            return stages[-1]

        monkeypatch.setattr(command, "require", lambda folder, peers: None)
        monkeypatch.setattr(command, "run_plan", run_plan)

    return stand_in


def test_without_a_terminal_every_step_is_a_line(runs, capsys):
    runs(Results(rows=()))
    assert run(BenchConfig(rows="delta")) == 0
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"1/\d+  0 s  preparing memzoo delta:2048", first)
    assert re.fullmatch(
        r"2/\d+  0 s  round 1/7: fla \[delta:2048\]  \(about \d+ s left\)", second
    )


def test_on_a_terminal_there_is_a_bar():
    console = Console(force_terminal=True, stderr=True)
    with command._progress(console, 2) as advance:
        advance("one")


def test_the_page_is_written_as_rows_are_measured(runs, tmp_path, monkeypatch):
    page = tmp_path / "results" / "ops.md"
    pages = []
    write = command._write_page

    def watch(results, config):
        write(results, config)
        pages.append(page.read_text())

    monkeypatch.setattr(command, "_write_page", watch)
    runs(Results(rows=(row_result("first"),)), Results(rows=(row_result("second"),)))
    # Some rows failed.
    assert run(BenchConfig(markdown=page)) == 1
    assert ["first" in each for each in pages] == [True, False]
    assert "second" in page.read_text() and "`memzoo bench`" in page.read_text()


def test_results_are_printed_as_json_or_as_tables(runs, capsys):
    runs(Results(rows=(row_result("no [shape]"),)))
    run(BenchConfig(json=True))
    assert json.loads(capsys.readouterr().out)["rows"][0]["failure"] == "no [shape]"
    run(BenchConfig())
    assert "failed: no [shape]" in capsys.readouterr().out
