import dataclasses
import sys
from pathlib import Path

import pytest

from memzoo.benchmarks import runner
from memzoo.benchmarks.cases import Case, Growth, Row
from memzoo.benchmarks.contestant import ContestantError, peer_command
from memzoo.benchmarks.runner import (
    OURS,
    Plan,
    Turn,
    contestant_commands,
    count_steps,
    run_plan,
    turns,
)

STAND_IN = str(Path(__file__).parent / "stand_in.py")


def make_plan(**changes):
    rows = tuple(
        Row(
            case=Case(operation=operation, time=8, num_heads=1, head_size=4),
            peer=peer,
            peer_function="f",
            target=1.0,
            aim=2.0,
        )
        for operation, peer in (("delta", "fla"), ("attention", "torch"))
    )
    settings = {
        "rows": rows,
        "growth": (Growth(operation="scalar_decay", times=(4, 8)),),
        "rounds": 3,
        "wall_rounds": 2,
        "minimum_seconds": 1e-6,
        "seed": 0,
        "peers_folder": Path("nowhere"),
    }
    return Plan(**(settings | changes))


def stand_ins(plan, threads):
    def command(*arguments):
        return [sys.executable, STAND_IN, *arguments]

    return {"fla": command("1"), "torch": command("3"), OURS: command("1")}


def test_who_begins_alternates_between_rounds_and_rows():
    plan = make_plan(growth=())
    order = [[turn.contestant for turn in turns(plan, index)] for index in range(3)]
    assert order[0] == ["fla", OURS, OURS, "torch"]
    assert order[1] == [OURS, "fla", "torch", OURS]
    assert order[2] == order[0]


def test_a_case_with_two_peers_is_measured_once_by_ours():
    (row, _) = make_plan().rows
    plan = make_plan(rows=(row, dataclasses.replace(row, peer="torch")), growth=())
    order = [[turn.contestant for turn in turns(plan, index)] for index in range(2)]
    assert order == [["fla", "torch", OURS], [OURS, "torch", "fla"]]
    steps = []
    first, second = run_plan(plan, steps.append, stand_ins).rows
    assert len(steps) == count_steps(plan)
    ours = "our_cpu_seconds"
    assert first.rounds[ours] == second.rounds[ours] and len(first.rounds[ours]) == 3
    assert first.errors == (0.0, 0.0) != second.errors


def test_every_round_measures_every_row_by_both_and_every_length_once():
    plan = make_plan()
    first, second = (list(turns(plan, index)) for index in range(2))
    assert len(first) == len(set(first)) == 6
    assert set(first) == set(second)
    lengths = [turn.case.time for turn in first[4:]]
    assert lengths == [4, 8]
    assert [turn.case.time for turn in second[4:]] == [8, 4]


def test_a_length_that_a_row_measures_is_not_measured_twice():
    row_case = Case(operation="delta", time=2048)
    row = Row(case=row_case, peer="fla", peer_function="f", target=1.0, aim=2.0)
    plan = make_plan(rows=(row,), growth=(Growth(operation="delta"),))
    order = list(turns(plan, 0))
    assert order.count(Turn(OURS, row_case)) == 1
    assert len(order) == 5


def test_peers_run_apart_and_ours_in_this_interpreter():
    commands = contestant_commands(make_plan(), threads=2)
    assert list(commands) == ["fla", "torch", OURS]
    assert commands[OURS][0] == sys.executable
    assert commands["fla"][0].startswith("nowhere")
    assert commands["fla"][1] == "-I" and commands["fla"][-2:] == ["fla", "2"]
    own = peer_command(Path("nowhere"), "materialised", threads=2)
    assert own[0] == sys.executable and own[2].endswith("worker_materialised")


def test_a_run_measures_compares_and_counts_its_steps():
    steps = []
    plan = make_plan()
    results = run_plan(plan, steps.append, stand_ins)
    assert len(steps) == count_steps(plan)
    delta, attention = results.rows
    assert delta.errors == (0.0, 0.0)
    assert attention.errors.output > 0 and attention.errors.gradient == 0
    assert len(delta.rounds["our_cpu_seconds"]) == 3
    assert len(delta.rounds["peer_wall_seconds"]) == 2
    assert delta.wall_ratio is not None
    assert len(results.growth[0].cpu_seconds) == 2
    assert results.versions["torch"] == {"stand-in": "3"}


def test_what_differs_is_not_compared_and_anchors_are_told():
    case = Case(
        operation="titans_mlp", time=8, num_heads=1, head_size=4, update_every=2
    )
    row = Row(
        case=case, peer="fla", peer_function="f", target=1.0, aim=2.0, differs="all"
    )
    plan = make_plan(rows=(row,), growth=(), wall_rounds=0, rounds=1)
    (result,) = run_plan(plan, lambda text: None, stand_ins).rows
    assert result.errors is None
    assert runner._options(plan, case) == {"chunk_size": None, "update_every": 2}
    plain = Case(operation="delta", time=8)
    assert runner._options(plan, plain) == {"chunk_size": None, "form": "auto"}


def test_without_wall_rounds_there_is_no_wall_time():
    steps = []
    plan = make_plan(wall_rounds=0, growth=(), rounds=1)
    results = run_plan(plan, steps.append, stand_ins)
    assert len(steps) == count_steps(plan)
    assert all(row.wall_ratio is None for row in results.rows)


@pytest.mark.parametrize(
    "flaw, message",
    [
        ("die", "fla ended: out of luck"),
        ("refuse", "fla, asked to prepare delta:8: ValueError: no such shape"),
    ],
)
def test_a_contestant_that_fails_ends_the_run_in_one_line(flaw, message):
    def commands(plan, threads):
        healthy = stand_ins(plan, threads)
        return healthy | {"fla": [*healthy["fla"], flaw]}

    with pytest.raises(ContestantError, match=message):
        run_plan(make_plan(), lambda text: None, commands)
