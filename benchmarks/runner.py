"""Interleaved benchmark run: every side is a process, and the sides take turns.

A stage is a set of such processes. It prepares a group (cases that rows compare with
each other), measures every case of the group once per round, and frees the group.
"""

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from memzoo.errors import MemzooError

from .cases import MODELS, OURS, Case, Device, Growth, Row, Side, Turn
from .contestant import (
    RETURN_MEMORY,
    Contestant,
    ContestantError,
    keep_compiled,
    side_command,
    usable_cores,
)
from .inputs import make_inputs
from .measures import errors_between
from .results import Findings, Results

Form = Literal["auto", "scan", "parallel"]
Group = tuple[Turn, ...]
Commands = Callable[[Side, int, Device], list[str]]
"""A side, its threads and its device -> the process to run."""

# Seconds. A longer pass needs no untimed pass first, since caches hardly affect it.
_LONG = 2.0
# The first step of a whole model is timed with its compilation.
_COLD = {"JAX_ENABLE_COMPILATION_CACHE": "false"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Rows to measure, and the number of rounds."""

    rows: tuple[Row, ...]
    growth: tuple[Growth, ...] = ()
    rounds: int
    wall_rounds: int = 0
    minimum_seconds: float
    seed: int = 0
    chunk_size: int | None = None
    form: Form = "auto"


class Stage(NamedTuple):
    """Rounds of some groups with one set of processes.

    Attributes:
        compares: the rounds give the ratios and the results are compared; if False, the
            rounds give the wall time on all cores.
        memory: measure the memory of one pass of every turn.
        fresh: start new processes for every group, so that groups do not share memory.
    """

    groups: tuple[Group, ...]
    device: Device
    cores: frozenset[int]
    variables: Mapping[str, str]
    rounds: int
    compares: bool = False
    memory: bool = False
    fresh: bool = False


def stages(plan: Plan) -> tuple[Stage, ...]:
    """Return the stages of a plan that have groups."""
    every = usable_cores()
    one = frozenset([max(every)])
    gpu = [row for row in plan.rows if row.case.device == "gpu"]
    cpu = [row for row in plan.rows if row.case.device == "cpu"]
    models = [row for row in cpu if row.case.kind in MODELS]
    single = [row for row in cpu if row.case.kind not in MODELS]
    operations = [row for row in single if row.case.kind == "operation"]
    small = [row for row in single if row.case.kind in ("operation", "layer")]
    grown = groups_of(single, plan.growth)
    found = (
        Stage(grown, "cpu", one, {}, plan.rounds, compares=True),
        Stage(groups_of(operations), "cpu", every, {}, plan.wall_rounds),
        Stage(groups_of(small, plan.growth), "cpu", one, RETURN_MEMORY, 0, memory=True),
        Stage(groups_of(models), "cpu", every, _COLD, plan.rounds, True, True, True),
        Stage(groups_of(gpu), "gpu", every, {}, plan.rounds, True, True),
    )
    return tuple(s for s in found if s.groups and (s.rounds or s.memory))


def groups_of(rows: Iterable[Row], growth: Iterable[Growth] = ()) -> tuple[Group, ...]:
    """Return groups of turns to interleave; every turn is in exactly one group."""
    together = [(row.theirs, row.ours) for row in rows]
    groups: list[dict[Turn, None]] = []
    for turns in [*together, *(each.turns for each in growth)]:
        joined = dict.fromkeys(turns)
        others = [group for group in groups if group.keys() & joined.keys()]
        if not others:
            groups.append(joined)
            continue
        # Merge the groups into the first of them.
        for group in (*others, joined):
            others[0] |= group
        gone = {id(group) for group in others[1:]}
        groups = [group for group in groups if id(group) not in gone]
    return tuple(map(tuple, groups))


def in_turn(group: Group, round_index: int, group_index: int) -> Iterable[Turn]:
    """Return the turns of one round, in an order that alternates between rounds."""
    return group if (round_index + group_index) % 2 == 0 else reversed(group)


def count_steps(plan: Plan) -> int:
    """Return the number of calls of `advance` in `run_plan` if no case fails."""
    return sum(
        len(group) * (1 + stage.rounds)
        for stage in stages(plan)
        for group in stage.groups
    )


def run_plan(
    plan: Plan,
    commands: Commands,
    advance: Callable[[str], None],
    found: Callable[[Results], None] = lambda results: None,
) -> Results:
    """Run all stages; a case that fails does not end the run.

    Args:
        commands: returns the process of a side; see `side_commands`.
        advance: called with a description before each preparation and turn.
        found: called with all results so far after every group.

    Raises:
        MemzooError: JAX finds no GPU, and rows need one.
    """
    load_before = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    findings = Findings()

    def results() -> Results:
        return Results(
            rows=tuple(findings.of_row(row) for row in plan.rows),
            growth=tuple(findings.of_growth(growth) for growth in plan.growth),
            versions=findings.versions,
            wall_cores=len(usable_cores()),
            load_before=load_before,
        )

    with tempfile.TemporaryDirectory() as folder:
        for stage in stages(plan):
            with _sides(stage, commands, findings, Path(folder)) as sides:
                for index, group in enumerate(stage.groups):
                    _Round(plan, stage, sides, findings, advance).run(group, index)
                    found(results())
                    if stage.fresh:
                        sides.close()
    return results()


def side_commands(peers_folder: Path) -> Commands:
    """Return the function that gives the command of every side's process."""
    return lambda side, threads, device: side_command(
        peers_folder, side, threads, device
    )


class _Sides:
    """Processes by side, started at their first request, or again after they ended."""

    def __init__(
        self, stage: Stage, commands: Commands, findings: Findings, folder: Path
    ) -> None:
        self._stage = stage
        self._commands = commands
        self._versions = findings.versions
        self._begun: dict[Side, Contestant] = {}
        self.folder = folder

    def ask(self, side: Side, command: str, **fields: Any) -> dict[str, Any]:
        return self._of(side).ask(command, **fields)

    def _of(self, side: Side) -> Contestant:
        if side not in self._begun:
            stage = self._stage
            command = self._commands(side, len(stage.cores), stage.device)
            variables = keep_compiled(self.folder) | dict(stage.variables)
            self._begun[side] = Contestant(
                side, command, stage.cores, variables, stage.device
            )
            self._versions[side] = self._ask_versions(side)
        return self._begun[side]

    def _ask_versions(self, side: Side) -> dict[str, str]:
        try:
            return self._begun[side].ask("versions")
        except ContestantError as error:
            self.close(side)
            if side == OURS and self._stage.device == "gpu":
                raise MemzooError(
                    "JAX finds no GPU; install memzoo[gpu] on a machine with one, or "
                    f"drop gpu ({first_line(error)})"
                ) from error
            raise

    def has_ended(self, side: Side) -> bool:
        """Return whether the process has ended or was never started."""
        return side not in self._begun or self._begun[side].ended

    def close(self, *sides: Side) -> None:
        """End the processes of these sides, or of all sides."""
        for side in sides or tuple(self._begun):
            if side in self._begun:
                self._begun.pop(side).close()


@contextmanager
def _sides(
    stage: Stage, commands: Commands, findings: Findings, folder: Path
) -> Iterator[_Sides]:
    sides = _Sides(stage, commands, findings, folder)
    try:
        yield sides
    finally:
        sides.close()


def first_line(error: Exception) -> str:
    """Return the first line of a message; compilers write many lines."""
    return str(error).strip().splitlines()[0]


@dataclass(frozen=True)
class _Round:
    """Work on one group in one stage: prepare it, measure it in rounds, free it."""

    plan: Plan
    stage: Stage
    sides: _Sides
    findings: Findings
    advance: Callable[[str], None]
    prepared: set[Turn] = field(default_factory=set)

    def run(self, group: Group, index: int) -> None:
        for turn in group:
            self._try(turn, self._prepare)
        repeats: dict[Turn, int] = {}
        once: dict[Turn, float] = {}
        for turn in group if self.stage.rounds else ():
            self._try(turn, lambda turn: once.update({turn: self._once(turn)}))
        for turn, seconds in once.items():
            repeats[turn] = max(1, math.ceil(self.plan.minimum_seconds / seconds))
        for number in range(self.stage.rounds):
            for turn in in_turn(group, number, index):
                where = f"round {number + 1}/{self.stage.rounds}"
                self._try(
                    turn,
                    lambda turn, where=where: self._time(
                        turn, where, repeats[turn], warm=once[turn] < _LONG
                    ),
                )
        if self.stage.memory:
            for turn in group:
                self._try(turn, self._memory)
        if self.stage.compares:
            self._compare(group)
        for turn in group:
            self._forget(turn)

    def _try(self, turn: Turn, act: Callable[[Turn], None]) -> None:
        """Act on a turn that has not failed, and record its failure."""
        if turn in self.findings.failures:
            return
        try:
            act(turn)
        except ContestantError as error:
            lost = [turn]
            if self.sides.has_ended(turn.side):
                # The next request starts a new process; prepared cases are lost.
                self.sides.close(turn.side)
                lost += [other for other in self.prepared if other.side == turn.side]
            for other in lost:
                self.findings.failures.setdefault(other, first_line(error))

    def _ask(self, turn: Turn, command: str, **fields: Any) -> dict[str, Any]:
        return self.sides.ask(turn.side, command, name=_name(turn), **fields)

    def _prepare(self, turn: Turn) -> None:
        """Send the inputs, and run the case once."""
        self.advance(f"preparing {turn.side} {_name(turn)}")
        plan, folder = self.plan, self.sides.folder
        inputs = folder / "inputs.npz"
        arrays: dict[str, Any] = dict(make_inputs(turn.case, plan.seed))
        np.savez(inputs, **arrays)
        answer = self._ask(
            turn,
            "prepare",
            inputs=str(inputs),
            options=options_of(turn.case, chunk_size=plan.chunk_size, form=plan.form),
        )
        self.prepared.add(turn)
        measured = self.findings.of(turn)
        if measured.first_seconds is None:
            measured.first_seconds = answer["first_seconds"]

    def _once(self, turn: Turn) -> float:
        answer = self._ask(turn, "run", repeats=1, warm=False)
        return max(answer["wall_seconds"], 1e-5)

    def _time(self, turn: Turn, where: str, repeats: int, *, warm: bool) -> None:
        self.advance(f"{where}: {turn.side} {_name(turn)}")
        answer = self._ask(turn, "run", repeats=repeats, warm=warm)
        measured = self.findings.of(turn)
        if self.stage.compares:
            measured.cpu.append(answer["cpu_seconds"])
            measured.wall.append(answer["wall_seconds"])
        else:
            measured.all_cores.append(answer["wall_seconds"])

    def _memory(self, turn: Turn) -> None:
        peak = self._ask(turn, "memory")["peak_bytes"]
        self.findings.of(turn).peak_bytes = peak

    def _results(self, turn: Turn) -> None:
        self._ask(turn, "results", outputs=str(self.sides.folder / _file(turn)))

    def _compare(self, group: Group) -> None:
        """Compare the results of the group's rows, if both sides compute the same."""
        rows = [r for r in self.plan.rows if r.differs is None and r.ours in group]
        for turn in dict.fromkeys(turn for r in rows for turn in (r.theirs, r.ours)):
            self._try(turn, self._results)
        for row in rows:
            turns = (row.theirs, row.ours)
            if any(turn in self.findings.failures for turn in turns):
                continue
            theirs, ours = (_load(self.sides.folder / _file(t)) for t in turns)
            self.findings.errors[row] = errors_between(theirs, ours)

    def _forget(self, turn: Turn) -> None:
        (self.sides.folder / _file(turn)).unlink(missing_ok=True)
        if not self.sides.has_ended(turn.side):
            with suppress(ContestantError):
                self._ask(turn, "forget")


def options_of(
    case: Case, *, chunk_size: int | None = None, form: Form = "auto"
) -> dict[str, Any]:
    """Return the options of a case for a side.

    Args:
        chunk_size: tokens in a chunk of our operations; None: they choose.
        form: form of our operations, if the case names none.
    """
    return asdict(case) | {"form": case.form or form, "chunk_size": chunk_size}


def _name(turn: Turn) -> str:
    """Return a name that is unique in one process: forms share the case's name."""
    form = [turn.case.form] if turn.case.form else []
    return "/".join([turn.case.name, *form])


def _file(turn: Turn) -> str:
    name = f"{turn.side}-{_name(turn)}".replace(":", "-").replace("/", "-")
    return f"{name}.npz"


def _load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return dict(stored)
