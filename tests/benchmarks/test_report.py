import json

import pytest

from memzoo.benchmarks.measures import Errors
from memzoo.benchmarks.report import WIDTH, as_json, as_markdown, as_text
from memzoo.benchmarks.results import GrowthResult, Measured, Results, RowResult
from memzoo.benchmarks.rows import CPU_ROWS, GPU_ROWS, GROWTH, all_rows


def measured(seconds, wall=True):
    return Measured(
        cpu=[seconds],
        wall=[0.7 * seconds],
        all_cores=[0.5 * seconds] if wall else [],
        peak_bytes=12_616_000_000,
        first_seconds=123.4,
    )


def row_result(row, wall=True):
    return RowResult(
        row=row,
        theirs=measured(24.25, wall and row.case.kind == "operation"),
        ours=measured(2.0, wall and row.case.kind == "operation"),
        errors=None if row.differs else Errors(1.49e-7, 4.6e-7),
    )


ROWS = all_rows("cpu")


def results(rows=ROWS, wall=True, **changes):
    settings = {
        "rows": tuple(row_result(row, wall) for row in rows),
        "growth": tuple(
            GrowthResult(
                growth=growth,
                measured=tuple(measured(1e-4 * time, False) for time in growth.times),
            )
            for growth in GROWTH
        ),
        "versions": {"memzoo": {"jax": "0.10.2"}, "torch": {"torch": "2.13.0"}},
        "wall_cores": 2,
    }
    return Results(**(settings | changes))


@pytest.mark.parametrize("wall", [True, False])
def test_the_tables_fit_80_columns(wall):
    text = as_text(results(wall=wall))
    # The terminal wraps remarks.
    table = text[: text.index("error: ")]
    assert max(map(len, table.splitlines())) <= WIDTH
    for expected in ("scalar decay", "transformers", "12.1", "1e-07", "5e-07"):
        assert expected in table
    assert ("x2 ms" in table) is wall


def test_a_case_is_followed_by_its_sides():
    lines = as_text(results(CPU_ROWS[:1], growth=())).splitlines()
    assert lines[0] == "Operations on one core"
    assert lines[2] == "gated delta: T 2048, B 1, H 4, D 64, float32"
    ours, theirs = (line.split() for line in lines[3:5])
    assert ours == ["memzoo", "2000", "1000", "12616", *"-----"]
    assert theirs == [
        *("transformers", "24250", "12125", "12616"),
        *("12.1", "12.1..12.1", "12.1", "1e-07", "5e-07"),
    ]
    assert lines[5].strip() == "goals: 2.7, aim 4 (aim)"


def test_a_case_with_two_peers_is_shown_once():
    mixture = [r for r in CPU_ROWS if r.case.num_memories == 4]
    text = as_text(results(mixture, growth=()))
    assert text.count("mixture/4:") == 1 and text.count("  memzoo") == 1
    assert "dense 1.4, aim 2 (aim); transformers 1.6, aim 2.5 (aim)" in text


def test_whole_models_have_tokens_a_second_and_the_time_to_the_first_step():
    (row,) = [r for r in all_rows("cpu") if r.case.name == "step:mamba2:2048"]
    lines = as_text(results([row], growth=())).splitlines()
    header = lines[1].split()
    assert header == [
        *("CPU", "ms", "ms", "tok/s", "first", "MB"),
        *("ratio", "min..max", "error", "grad"),
    ]
    # 4,096 tokens in 0.7 times two seconds.
    assert lines[3].split()[1:6] == ["2000", "1400", "2926", "123.4", "12616"]


def test_a_row_that_failed_says_why():
    failed = RowResult(
        row=GPU_ROWS[0],
        ours=Measured(),
        theirs=Measured(),
        failure="cannot broadcast [b t h k] of [/red]",
    )
    shown = results(growth=(), rows=()).__class__(rows=(failed,))
    assert "  failed: cannot broadcast [b t h k] of [/red]" in as_text(shown)
    assert "cannot broadcast [b t h k]" in as_markdown(shown, "x", "today")
    assert as_json(shown)["rows"][0]["failure"].startswith("cannot")


def test_a_gpu_is_named():
    versions = {"memzoo": {"device": "Card"}}
    text = as_text(results(GPU_ROWS[:2], growth=(), versions=versions))
    assert text.startswith("Operations, on Card")
    assert "attention: T 2048, B 8, H 8, D 64, bfloat16" in text


def test_growth_is_a_line_a_length():
    text = as_text(results(()))
    assert "titans mlp/16\n  T 1024" in text
    assert "time 1.00, at most 1.1 (target); memory 0.00" in text
    assert "Growth" not in as_text(results(growth=()))


def test_json_holds_every_round():
    written = json.loads(json.dumps(as_json(results())))
    assert written["schema"] == 2 and written["machine"]["processor"]
    row = written["rows"][0]
    assert row["ratio"] == {"median": 12.125, "low": 12.125, "high": 12.125}
    assert row["ours"]["cpu"] == [2.0] and row["reached"] == "aim"
    assert row["errors"] == {"output": 1.49e-7, "gradient": 4.6e-7}
    other = next(r for r in written["rows"] if r["peer"] == "titans")
    assert other["differs"] and other["errors"] is None
    assert other["case"]["update_every"] == 64
    assert written["growth"][0]["time_exponent"] == pytest.approx(1.0)


def test_the_page_names_command_machine_versions_and_tables():
    page = as_markdown(results(), "memzoo bench", "2026-01-02")
    assert "`memzoo bench` on 2026-01-02" in page
    assert "delta against fla `ops.delta_rule.naive.delta_rule_chunkwise`" in page
    assert "jax 0.10.2, torch 2.13.0" in page
    assert "fla in titans/16 (its gradient of the layer norm is wrong" in page
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) > 1
    growth = sum(len(each.times) for each in GROWTH)
    cases = {row.case for row in all_rows("cpu")}
    tables = page.count("## ")
    assert len(lines) == len(all_rows("cpu")) + len(cases) + growth + 2 * tables


@pytest.mark.parametrize("load, warned", [(None, False), (0.2, False), (6.5, True)])
def test_a_busy_machine_is_told(load, warned):
    shown = results(load_before=load)
    assert ("load 6.5" in as_markdown(shown, "memzoo bench", "2026-01-02")) is warned
    assert ("The machine was busy" in as_text(shown)) is warned
    assert as_json(shown)["load_before"] == load


def test_remarks_are_of_what_is_shown():
    plain = [r for r in CPU_ROWS if r.case.operation == "delta"]
    text = as_text(results(plain, growth=()))
    assert "slash" not in text and "compute something else" not in text
    assert "Whole models" not in text
