"""One run of rows of every kind, with stand-ins for the sides."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from memzoo.benchmarks import runner
from memzoo.benchmarks.cases import Case, Growth, Row, Turn
from memzoo.benchmarks.contestant import RETURN_MEMORY
from memzoo.benchmarks.rows import select_rows
from memzoo.benchmarks.runner import (
    Plan,
    count_steps,
    groups_of,
    in_turn,
    options_of,
    run_plan,
    side_commands,
    stages,
)
from memzoo.errors import MemzooError

STAND_IN = str(Path(__file__).parent / "stand_in.py")
DELTA = Case(operation="delta", time=8)
ROW = Row(case=DELTA, peer="fla", peer_function="f", target=1.0, aim=2.0)
OTHER = replace(ROW, case=replace(DELTA, operation="attention"), peer="torch")
GROWTH = Growth(operation="delta", times=(4, 8))


def plan_of(*rows, **changes):
    settings = {"rows": rows, "rounds": 2, "minimum_seconds": 1e-6}
    return Plan(**(settings | changes))


def stand_ins(**arguments):
    """Return commands that run the stand-in for every side."""

    def command(side, threads, device):
        return [sys.executable, STAND_IN, *arguments.get(side, ("1",))]

    return command


def measure(*rows, sides=None, **changes):
    steps, seen = [], []
    plan = plan_of(*rows, **changes)
    results = run_plan(plan, stand_ins(**(sides or {})), steps.append, seen.append)
    return results, steps, seen, plan


def test_operations_have_rounds_on_one_core_and_on_all_and_a_pass_for_memory():
    one, every, memory = stages(plan_of(ROW, OTHER, wall_rounds=3, growth=(GROWTH,)))
    assert (one.rounds, every.rounds, memory.rounds) == (2, 3, 0)
    assert len(one.cores) == len(memory.cores) == 1
    assert one.compares and memory.memory and memory.variables is RETURN_MEMORY
    turns = {turn for group in one.groups for turn in group}
    assert len(turns) == 5 and turns == {t for g in memory.groups for t in g}
    # The growth is measured on one core.
    assert len([t for g in every.groups for t in g]) == 4


def test_whole_models_are_run_on_all_cores_without_what_was_compiled_before():
    rows = select_rows("step:attention:512,prompt:8192,layer:retnet")
    one, memory, models = stages(plan_of(*rows, wall_rounds=3))
    assert models.cores == runner.usable_cores() and models.compares and models.memory
    assert models.fresh and not one.fresh
    assert models.variables == {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    kinds = [{t.case.kind for g in s.groups for t in g} for s in (one, memory, models)]
    assert kinds == [{"prompt", "layer"}, {"layer"}, {"step"}]


def test_a_gpu_has_one_stage():
    (stage,) = stages(plan_of(*select_rows("attention", "gpu")))
    assert stage.device == "gpu" and stage.compares and stage.memory


def test_what_some_row_sets_beside_each_other_is_one_group():
    rows = select_rows("mixture:2048:4,delta:2048,layer:retnet,layer:mamba2")
    mixture, delta, layers = groups_of(rows)
    assert [turn.case.form for turn in mixture] == ["dense", None, None]
    assert [turn.side for turn in delta] == ["fla", "memzoo"]
    assert [t.case.operation for t in layers] == ["attention", "retnet", "mamba2"]


def test_a_length_that_a_row_measures_is_not_measured_twice():
    (group,) = groups_of([ROW], [GROWTH])
    assert [(turn.side, turn.case.time) for turn in group] == [
        ("fla", 8),
        ("memzoo", 8),
        ("memzoo", 4),
    ]


def test_who_begins_alternates_between_rounds_and_groups():
    group = (Turn("fla", DELTA), Turn("memzoo", DELTA))
    order = [
        [t.side for t in in_turn(group, r, g)] for r, g in ((0, 0), (1, 0), (1, 1))
    ]
    assert order == [["fla", "memzoo"], ["memzoo", "fla"], ["fla", "memzoo"]]


def test_a_run_measures_compares_and_counts_its_steps():
    results, steps, seen, plan = measure(
        ROW, OTHER, wall_rounds=1, growth=(GROWTH,), sides={"torch": ("3",)}
    )
    assert len(steps) == count_steps(plan)
    delta, attention = results.rows
    assert delta.errors == (0.0, 0.0)
    assert attention.errors.output > 0 and attention.errors.gradient == 0
    for row in (delta, attention):
        assert len(row.ours.cpu) == len(row.theirs.wall) == 2
        assert len(row.ours.all_cores) == 1
        assert row.ours.peak_bytes is None or row.ours.peak_bytes >= 0
        assert row.ours.first_seconds > 0
    assert [len(m.cpu) for m in results.growth[0].measured] == [2, 2]
    assert results.versions["torch"] == {"stand-in": "3"}
    # Results so far are reported after every group of every stage.
    assert len(seen) == 3 * 2
    assert [row.ratio is None for row in seen[0].rows] == [False, True]
    assert steps[0] == "preparing fla delta:8"


def test_what_differs_is_not_compared():
    results, *_ = measure(replace(ROW, differs="all"))
    assert results.rows[0].errors is None


def test_a_case_that_a_side_refuses_does_not_end_the_run():
    rows = (ROW, OTHER, replace(OTHER, peer="fla"))
    results, steps, _, plan = measure(*rows, sides={"torch": ("1", "refuse")})
    assert [r.failure is None for r in results.rows] == [True, False, True]
    message = "torch, asked to prepare attention:8: ValueError: no such [shape]"
    assert results.rows[1].failure == message
    assert results.rows[2].ratio is not None and results.rows[1].ratio is None
    assert len(steps) < count_steps(plan)


def test_one_layer_that_fails_leaves_the_others():
    rows = tuple(
        replace(r, case=replace(r.case, time=8), other=replace(r.other, time=8))
        for r in select_rows("layer:retnet,layer:mamba2")
    )
    results, *_ = measure(*rows, sides={"memzoo": ("1", "refuse", "retnet")})
    assert [r.failure is None for r in results.rows] == [False, True]
    assert len(results.rows[1].ours.cpu) == 2


def test_a_process_that_ended_is_begun_again(tmp_path):
    """The process dies at its first request to prepare, and not later."""
    rows = (ROW, replace(OTHER, peer="fla"))
    sides = {"fla": ("1", "die", str(tmp_path / "died"))}
    results, *_ = measure(*rows, sides=sides)
    assert "out of luck" in results.rows[0].failure
    assert results.rows[1].failure is None and len(results.rows[1].theirs.cpu) == 2


def test_without_a_gpu_the_command_ends_with_the_remedy():
    # A process that cannot answer the first request.
    gone = [sys.executable, "-c", "import sys; sys.exit('no device')"]
    plan = plan_of(replace(OTHER, case=replace(OTHER.case, device="gpu")))

    def commands(side, *_):
        return gone if side == "memzoo" else stand_ins()(side, 1, "")

    with pytest.raises(MemzooError, match=r"no GPU; install memzoo\[gpu\].*no device"):
        run_plan(plan, commands, lambda _: None)


def test_long_passes_are_not_run_once_more(monkeypatch):
    asked = []
    ask = runner.Contestant.ask

    def watch(self, command, **fields):
        asked.append((command, fields.get("warm"), fields.get("repeats")))
        return ask(self, command, **fields)

    monkeypatch.setattr(runner.Contestant, "ask", watch)
    monkeypatch.setattr(runner, "_LONG", 0.0)
    measure(ROW, rounds=1)
    runs = [each for each in asked if each[0] == "run"]
    assert {warm for _, warm, _ in runs} == {False}


def test_a_side_is_told_the_case_and_what_ours_may_choose():
    options = options_of(DELTA, chunk_size=16, form="scan")
    assert options["operation"] == "delta" and options["form"] == "scan"
    assert options["chunk_size"] == 16 and options["update_every"] is None
    assert options_of(replace(DELTA, form="dense"), form="scan")["form"] == "dense"


def test_peers_run_in_their_environments_and_ours_in_this_one():
    command = side_commands(Path("nowhere"))
    ours = command("memzoo", 2, "gpu")
    assert ours[0] == sys.executable and ours[-1] == "gpu"
    theirs = command("fla", 2, "cpu")
    assert theirs[0].startswith("nowhere") and theirs[1] == "-I"
    assert theirs[2].endswith("worker_torch.py") and theirs[-3:] == ["fla", "2", "cpu"]
    assert command("jla", 1, "cpu")[2].endswith("worker_jla.py")
