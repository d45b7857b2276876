"""One interleaved run of all contestants."""

import math
import os
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from .cases import Case, Growth, Peer, Row, peers_of
from .contestant import (
    RETURN_MEMORY,
    Contestant,
    keep_compiled,
    our_command,
    peer_command,
    usable_cores,
)
from .inputs import make_inputs
from .measures import Errors, Ratio, errors_between, growth_exponent, paired_ratio

OURS = "memzoo"

Form = Literal["auto", "scan", "parallel"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to run, and how often."""

    rows: tuple[Row, ...]
    growth: tuple[Growth, ...]
    rounds: int
    wall_rounds: int
    minimum_seconds: float
    seed: int
    peers_folder: Path
    chunk_size: int | None = None
    form: Form = "auto"

    @property
    def peers(self) -> tuple[Peer, ...]:
        return peers_of(self.rows)

    def cases_of(self, contestant: str) -> tuple[Case, ...]:
        """The cases that a contestant runs, each once."""
        if contestant != OURS:
            return tuple(row.case for row in self.rows if row.peer == contestant)
        grown = [case for growth in self.growth for case in growth.cases]
        return tuple(dict.fromkeys([*(row.case for row in self.rows), *grown]))


Commands = Callable[[Plan, int], Mapping[str, list[str]]]


class Turn(NamedTuple):
    """One measurement: who runs what."""

    contestant: str
    case: Case


class Timing(NamedTuple):
    """Seconds a pass of one contestant at one case, a round each."""

    cpu: list[float]
    wall: list[float]


class Measured(NamedTuple):
    """What one set of rounds has found, by contestant and case."""

    timings: dict[Turn, Timing]
    errors: dict[Row, Errors]
    versions: dict[str, dict[str, str]]


Peaks = Mapping[Turn, int | None]


@dataclass(frozen=True, kw_only=True)
class RowResult:
    """A row of the table. Seconds are medians; memory is what one pass adds.

    Attributes:
        errors: None where the peer computes something else.
    """

    row: Row
    ratio: Ratio
    peer_cpu_seconds: float
    our_cpu_seconds: float
    wall_ratio: Ratio | None
    peer_wall_seconds: float | None
    our_wall_seconds: float | None
    peer_peak_bytes: int | None
    our_peak_bytes: int | None
    errors: Errors | None
    rounds: dict[str, list[float]]

    @property
    def reached(self) -> str:
        """Which goal the median ratio reaches."""
        if self.ratio.median >= self.row.aim:
            return "aim"
        return "target" if self.ratio.median >= self.row.target else "below"


@dataclass(frozen=True, kw_only=True)
class GrowthResult:
    """How time and memory of one operation grow with the length."""

    growth: Growth
    cpu_seconds: tuple[float, ...]
    peak_bytes: tuple[int | None, ...]
    time_exponent: float
    memory_exponent: float | None

    @property
    def reached(self) -> str:
        """Whether the time grows as slowly as it is meant to."""
        return "target" if self.time_exponent <= self.growth.target else "below"


@dataclass(frozen=True, kw_only=True)
class Results:
    """The whole table.

    Attributes:
        load_before: processes that wanted a core when the run began (mean over the
            minute before); None where the system does not tell.
    """

    rows: tuple[RowResult, ...]
    growth: tuple[GrowthResult, ...]
    versions: dict[str, dict[str, str]]
    wall_cores: int
    load_before: float | None = None


def turns(plan: Plan, round_index: int) -> Iterator[Turn]:
    """The measurements of one round: every case with its contestants side by side.

    Who begins alternates with the round and from case to case, so that none always
    follows another. Lengths that only the growth needs come last, forwards and
    backwards in turn.
    """
    compared = dict.fromkeys(row.case for row in plan.rows)
    for index, case in enumerate(compared):
        group = [Turn(row.peer, case) for row in plan.rows if row.case == case]
        group.append(Turn(OURS, case))
        yield from group if (round_index + index) % 2 == 0 else reversed(group)
    extra = [case for case in plan.cases_of(OURS) if case not in compared]
    for case in extra if round_index % 2 == 0 else reversed(extra):
        yield Turn(OURS, case)


def contestant_commands(plan: Plan, threads: int) -> dict[str, list[str]]:
    """What to run for every contestant of the plan, ours included."""
    peers = {
        str(peer): peer_command(plan.peers_folder, peer, threads) for peer in plan.peers
    }
    return peers | {OURS: our_command()}


def run_plan(
    plan: Plan, advance: Callable[[str], None], commands: Commands = contestant_commands
) -> Results:
    """Run the plan on one core with one thread, on all cores, and for its memory.

    Each is a set of processes of its own.

    Args:
        advance: told what begins: a preparation or a turn.
        commands: the processes to run for a plan, on so many threads.

    Raises:
        ContestantError: a contestant failed.
    """
    load_before = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    every = usable_cores()
    one = frozenset([max(every)])
    with tempfile.TemporaryDirectory() as folder:
        peaks = _peaks(plan, one, Path(folder), advance, commands)
        single = _measure(plan, plan.rounds, one, Path(folder), advance, commands)
        many = None
        if plan.wall_rounds:
            compared = replace(plan, growth=())
            many = _measure(
                compared, plan.wall_rounds, every, Path(folder), advance, commands
            )
    return Results(
        rows=tuple(_row_result(row, single, many, peaks) for row in plan.rows),
        growth=tuple(_growth_result(growth, single, peaks) for growth in plan.growth),
        versions=single.versions,
        wall_cores=len(every),
        load_before=load_before,
    )


def count_steps(plan: Plan) -> int:
    """How often `run_plan` calls `advance`."""
    both = len(plan.rows) + len({row.case for row in plan.rows})
    ours = len(plan.cases_of(OURS))
    prepared = len(plan.rows) + ours
    single = 2 * prepared + plan.rounds * (len(plan.rows) + ours)
    if not plan.wall_rounds:
        return single
    return single + both + plan.wall_rounds * both


def _measure(
    plan: Plan,
    rounds: int,
    cores: frozenset[int],
    folder: Path,
    advance: Callable[[str], None],
    commands: Commands,
) -> Measured:
    variables = keep_compiled(folder)
    with ExitStack() as stack:
        contestants = {
            name: stack.enter_context(Contestant(name, command, cores, variables))
            for name, command in commands(plan, len(cores)).items()
        }
        measured = _prepare(plan, contestants, folder, advance)
        repeats = _calibrate(plan, contestants)
        for index in range(rounds):
            for turn in turns(plan, index):
                advance(f"round {index + 1}/{rounds}: {turn.contestant} {_of(turn)}")
                answer = contestants[turn.contestant].ask(
                    "run", name=turn.case.name, repeats=repeats[turn]
                )
                timing = measured.timings.setdefault(turn, Timing([], []))
                timing.cpu.append(answer["cpu_seconds"])
                timing.wall.append(answer["wall_seconds"])
    return measured


def _peaks(
    plan: Plan,
    cores: frozenset[int],
    folder: Path,
    advance: Callable[[str], None],
    commands: Commands,
) -> Peaks:
    """Bytes that one pass adds, for every contestant and case."""
    variables = RETURN_MEMORY | keep_compiled(folder)
    with ExitStack() as stack:
        contestants = {
            name: stack.enter_context(Contestant(name, command, cores, variables))
            for name, command in commands(plan, len(cores)).items()
        }
        _prepare(plan, contestants, folder, advance)
        return {
            turn: contestants[turn.contestant].ask("memory", name=turn.case.name)[
                "peak_bytes"
            ]
            for turn in _distinct_turns(plan)
        }


def _prepare(
    plan: Plan,
    contestants: Mapping[str, Contestant],
    folder: Path,
    advance: Callable[[str], None],
) -> Measured:
    """Hand out the inputs, run everything once and compare what comes back."""
    inputs = {case: folder / f"{_file(case)}.npz" for case in plan.cases_of(OURS)}
    for case, path in inputs.items():
        arrays: dict[str, Any] = dict(make_inputs(case, plan.seed))
        np.savez(path, **arrays)
    outputs: dict[Turn, Path] = {}
    for turn in _distinct_turns(plan):
        advance(f"preparing {turn.contestant} {_of(turn)}")
        outputs[turn] = folder / f"{turn.contestant}-{_file(turn.case)}.npz"
        contestants[turn.contestant].ask(
            "prepare",
            name=turn.case.name,
            operation=turn.case.operation,
            inputs=str(inputs[turn.case]),
            outputs=str(outputs[turn]),
            options=_options(plan, turn.case),
        )
    return Measured(
        timings={},
        errors={
            row: errors_between(
                _load(outputs[Turn(row.peer, row.case)]),
                _load(outputs[Turn(OURS, row.case)]),
            )
            for row in plan.rows
            if row.differs is None
        },
        versions={name: c.ask("versions") for name, c in contestants.items()},
    )


def _options(plan: Plan, case: Case) -> dict[str, Any]:
    """What a contestant is told about a case, besides its inputs."""
    options: dict[str, Any] = {"chunk_size": plan.chunk_size}
    if case.update_every is None:
        return options | {"form": plan.form}
    return options | {"update_every": case.update_every}


def _calibrate(plan: Plan, contestants: Mapping[str, Contestant]) -> dict[Turn, int]:
    """Passes a turn, so that a measurement lasts long enough for the clock."""
    repeats: dict[Turn, int] = {}
    for turn in _distinct_turns(plan):
        answer = contestants[turn.contestant].ask("run", name=turn.case.name, repeats=1)
        seconds = max(answer["wall_seconds"], 1e-4)
        repeats[turn] = max(1, math.ceil(plan.minimum_seconds / seconds))
    return repeats


def _distinct_turns(plan: Plan) -> Iterable[Turn]:
    return dict.fromkeys(turns(plan, 0))


def _file(case: Case) -> str:
    return case.name.replace(":", "-")


def _of(turn: Turn) -> str:
    return f"{turn.case.label} {turn.case.time}"


def _load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return dict(stored)


def _row_result(
    row: Row, single: Measured, many: Measured | None, peaks: Peaks
) -> RowResult:
    peer, ours = Turn(row.peer, row.case), Turn(OURS, row.case)
    a, b = single.timings[peer], single.timings[ours]
    wall = None
    if many is not None:
        wall = many.timings[peer].wall, many.timings[ours].wall
    return RowResult(
        row=row,
        ratio=paired_ratio(a.cpu, b.cpu),
        peer_cpu_seconds=statistics.median(a.cpu),
        our_cpu_seconds=statistics.median(b.cpu),
        wall_ratio=paired_ratio(*wall) if wall else None,
        peer_wall_seconds=statistics.median(wall[0]) if wall else None,
        our_wall_seconds=statistics.median(wall[1]) if wall else None,
        peer_peak_bytes=peaks[peer],
        our_peak_bytes=peaks[ours],
        errors=single.errors.get(row),
        rounds={
            "peer_cpu_seconds": a.cpu,
            "our_cpu_seconds": b.cpu,
            "peer_wall_seconds": wall[0] if wall else [],
            "our_wall_seconds": wall[1] if wall else [],
        },
    )


def _growth_result(growth: Growth, single: Measured, peaks: Peaks) -> GrowthResult:
    own = [Turn(OURS, case) for case in growth.cases]
    seconds = [statistics.median(single.timings[turn].cpu) for turn in own]
    sizes = [peaks[turn] for turn in own]
    known = [size for size in sizes if size is not None]
    return GrowthResult(
        growth=growth,
        cpu_seconds=tuple(seconds),
        peak_bytes=tuple(sizes),
        time_exponent=growth_exponent(growth.times, seconds),
        memory_exponent=(
            growth_exponent(growth.times, known) if len(known) == len(sizes) else None
        ),
    )
