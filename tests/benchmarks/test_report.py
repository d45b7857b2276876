import io
import json

import pytest
from rich.console import Console

from memzoo.benchmarks.cases import GROWTH, ROWS
from memzoo.benchmarks.measures import Errors, Ratio
from memzoo.benchmarks.report import WIDTH, as_json, as_markdown, as_renderable
from memzoo.benchmarks.runner import GrowthResult, Results, RowResult


def row_result(row, ratio, wall=True):
    return RowResult(
        row=row,
        ratio=Ratio(ratio, 0.5 * ratio, 12.345),
        peer_cpu_seconds=1.7061,
        our_cpu_seconds=0.0368,
        wall_ratio=Ratio(10.25, 9.5, 11.25) if wall else None,
        peer_wall_seconds=0.8 if wall else None,
        our_wall_seconds=0.1 if wall else None,
        peer_peak_bytes=616_000_000,
        our_peak_bytes=308_000_000 if wall else None,
        errors=None if row.differs else Errors(1.49e-7, 4.6e-7),
        rounds={"peer_cpu_seconds": [1.7061], "our_cpu_seconds": [0.0368]},
    )


def results(wall=True):
    return Results(
        rows=tuple(row_result(row, 10.5, wall) for row in ROWS),
        growth=tuple(
            GrowthResult(
                growth=growth,
                cpu_seconds=(0.025, 0.05, 0.1, 0.2),
                peak_bytes=(90_000_000, 150_000_000, 270_000_000, 520_000_000),
                time_exponent=1.0,
                memory_exponent=0.84,
            )
            for growth in GROWTH
        ),
        versions={"memzoo": {"jax": "0.10.2"}, "torch": {"torch": "2.13.0"}},
        wall_cores=2,
    )


def rendered(shown):
    console = Console(width=WIDTH, file=io.StringIO())
    console.print(as_renderable(shown))
    return console.file.getvalue()


@pytest.mark.parametrize("wall", [True, False])
def test_the_tables_fit_their_width_and_lose_nothing(wall):
    text = rendered(results(wall))
    assert max(len(line.rstrip()) for line in text.splitlines()) <= WIDTH
    # Rich marks what it cuts.
    assert "…" not in text
    for expected in (
        "scalar decay",
        "transformers",
        "10.50",
        "12.35",
        "2.7/4",
        "1e-07",
    ):
        assert expected in text


@pytest.mark.parametrize(
    "ratio, reached", [(2.69, "below"), (2.7, "target"), (4.0, "aim")]
)
def test_a_row_says_which_goal_it_reaches(ratio, reached):
    assert row_result(ROWS[0], ratio).reached == reached


def test_growth_is_judged_by_its_exponent():
    growth = results().growth[0]
    assert growth.reached == "target"
    assert GrowthResult(**(vars(growth) | {"time_exponent": 1.2})).reached == "below"


def test_json_holds_every_round():
    written = json.loads(json.dumps(as_json(results(wall=False))))
    assert written["schema"] == 1
    row = written["rows"][0]
    assert row["ratio"] == {"median": 10.5, "low": 5.25, "high": 12.345}
    assert row["rounds"]["our_cpu_seconds"] == [0.0368]
    assert row["wall_ratio"] is None and row["reached"] == "aim"
    assert (row["differs"], row["output_error"]) == (None, 1.49e-7)
    other = next(r for r in written["rows"] if r["peer"] == "titans")
    assert other["differs"] and other["output_error"] is None
    assert other["update_every"] == 64
    assert written["growth"][0]["time_exponent"] == 1.0
    assert written["machine"]["processor"]


def test_the_page_names_command_machine_versions_and_tables():
    page = as_markdown(results(), "memzoo bench", "2026-01-02")
    assert "`memzoo bench` on 2026-01-02" in page
    assert "delta against fla `ops.delta_rule.naive.delta_rule_chunkwise`" in page
    assert "jax 0.10.2, torch 2.13.0" in page
    assert "fla in titans (its gradient of the layer norm is not" in page
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert len(lines) == 2 * (len(ROWS) + 2) + len(GROWTH) + 2


@pytest.mark.parametrize("load, warned", [(None, False), (0.2, False), (6.5, True)])
def test_a_busy_machine_is_told(load, warned):
    shown = Results(**(vars(results()) | {"load_before": load}))
    assert ("load 6.5" in as_markdown(shown, "memzoo bench", "2026-01-02")) is warned
    assert ("The machine was busy" in rendered(shown)) is warned
    assert as_json(shown)["load_before"] == load


def test_rows_that_all_compute_the_same_need_no_remark():
    same = tuple(result for result in results().rows if not result.row.differs)
    shown = Results(**(vars(results()) | {"rows": same}))
    page = as_markdown(shown, "memzoo bench", "2026-01-02")
    assert "something else" not in page and "behind a stroke" in page
    plain = tuple(r for r in shown.rows if r.row.case.update_every is None)
    shown = Results(**(vars(shown) | {"rows": plain}))
    assert "stroke" not in as_markdown(shown, "memzoo bench", "2026-01-02")


def test_a_table_without_rows_is_left_out():
    shown = results()
    shown = Results(**(vars(shown) | {"growth": ()}))
    assert "Growth" not in rendered(shown)
