"""The run on a GPU, with stand-ins for the contestants."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from memzoo.benchmarks.cases import Case
from memzoo.benchmarks.gpu import (
    ROWS,
    GpuRow,
    count_gpu,
    gpu_commands,
    gpu_peers,
    measure_gpu,
    select_gpu_rows,
)
from memzoo.benchmarks.gpu_report import gpu_json, gpu_markdown, gpu_table
from memzoo.errors import MemzooError

STAND_IN = str(Path(__file__).parent / "stand_in.py")
DELTA = Case(operation="delta", time=16, num_heads=1, head_size=4)
ROW = GpuRow(case=DELTA, peer="fla", peer_function="f", target=0.25)
CASES = (
    ROW,
    replace(ROW, case=replace(DELTA, operation="attention"), peer="torch"),
    replace(ROW, peer="titans", differs="another rule"),
)


def measure(rows, behaviour):
    """Run the rows with stand-ins; `behaviour` is what those named do beside answer."""
    results, steps, versions = [], [], {}

    def command(name):
        return [sys.executable, STAND_IN, "1", *behaviour.get(name, [])]

    measure_gpu(
        rows,
        rounds=2,
        minimum_seconds=1e-6,
        seed=0,
        options={"chunk_size": None, "form": "auto"},
        advance=steps.append,
        found=results.append,
        versions=versions,
        commands=command,
    )
    return results, steps, versions


@pytest.fixture(scope="module")
def run():
    return measure(CASES, {"torch": ["refuse"]})


def test_every_row_is_measured_once_a_round_on_both_sides(run):
    results, steps, versions = run
    assert [len(r.peer_seconds) for r in results] == [2, 0, 2]
    assert [len(r.our_seconds) for r in results] == [2, 0, 2]
    assert results[0].errors.output == 0.0
    assert results[2].errors is None
    assert steps[:2] == [f"preparing {ROW.name}: {who}" for who in ("fla", "memzoo")]
    # Of the row that the peer refuses, the other side and two rounds are left out.
    assert len(steps) == count_gpu(CASES, 2) - 3
    assert versions == {"stand-in": "1"}


def test_a_row_that_fails_is_said_and_does_not_end_the_run(run):
    results, _, versions = run
    assert "torch, asked to prepare attention:16" in results[1].failure
    console = Console(width=110, file=io.StringIO())
    console.print(gpu_table(results, versions))
    shown = console.file.getvalue()
    assert "failed" in shown and "ValueError: no such shape" in shown
    page = gpu_markdown(results, versions, "memzoo bench --gpu", "2026-01-01")
    assert page.count("| delta |") == 2 and "titans in delta (another rule)" in page
    rows = json.loads(json.dumps(gpu_json(results, versions)))["rows"]
    assert [row["failure"] is None for row in rows] == [True, False, True]


def test_a_process_that_ended_is_begun_again(tmp_path):
    """It dies the first time that it is asked to prepare, and not after that."""
    results, _, _ = measure((ROW, ROW), {"fla": ["die", str(tmp_path / "died")]})
    assert "out of luck" in results[0].failure
    assert results[1].failure is None and len(results[1].peer_seconds) == 2


def test_without_a_gpu_the_command_ends_with_the_remedy():
    # A process that cannot even answer what it is.
    gone = ["-c", "import sys; sys.exit('no device')"]
    with pytest.raises(MemzooError, match=r"no GPU; install memzoo\[gpu\].*no device"):
        measure_gpu(
            (ROW,),
            rounds=1,
            minimum_seconds=1.0,
            seed=0,
            options={},
            advance=lambda _: None,
            found=lambda _: None,
            versions={},
            commands=lambda name: [sys.executable, *gone],
        )


def test_rows_are_chosen_by_name():
    assert len({(row.name, row.shape) for row in ROWS}) == len(ROWS)
    names = [row.name for row in select_gpu_rows("delta:2048,retention")]
    assert names == [
        "delta:2048:both",
        "delta:2048:forward",
        "retention:2048:both",
        "retention:8192:both",
    ]
    assert select_gpu_rows(None) == ROWS
    assert gpu_peers(select_gpu_rows("mixture,titans_lmm")) == ["titans"]
    with pytest.raises(MemzooError, match="no benchmark row on a GPU is named 'mlp'"):
        select_gpu_rows("mlp")


def test_peers_run_in_their_environments_and_forms_of_ours_in_this_one(tmp_path):
    command = gpu_commands(tmp_path)
    assert command("memzoo")[0] == sys.executable
    assert command("dense") == [*command("memzoo"), "dense"]
    assert str(tmp_path) in command("fla")[0] and command("fla")[-1] == "fla"
