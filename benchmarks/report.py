"""Reports of the results as text for a terminal, as JSON and as a page."""

import os
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from .cases import GENERATED, OURS, Case
from .contestant import can_pin
from .measures import Ratio
from .results import GrowthResult, Measured, Results, RowResult, median

WIDTH = 80
# Load above which a side has to share its core.
BUSY = 0.5


class Line(NamedTuple):
    """Table line: one side of a case, or one length of a growth.

    `row` holds the ratios, for a peer's line.
    """

    name: str
    case: Case
    measured: Measured
    row: RowResult | None = None


class Entry(NamedTuple):
    """Case with the lines of its sides."""

    heading: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()


class Section(NamedTuple):
    """Entries of one table."""

    title: str
    entries: tuple[Entry, ...]


TITLES = {
    "operation": "Operations on one core",
    "layer": "Whole layers on one core",
    "prompt": "Operations that read a long prompt, on one core",
    "block": "Blocks that read a long prompt, on one core",
    "decode": "Blocks that generate one token at position T, on one core",
    "step": "Training steps of whole models: forward, backward, clipping, AdamW",
    "read": "Whole models that read a prompt of T tokens",
    "generate": f"Whole models that generate {GENERATED} tokens after T tokens",
}


def sections(results: Results) -> tuple[Section, ...]:
    """Return the tables of a report that have entries."""
    by_title: dict[str, dict[Case, list[RowResult]]] = {}
    for result in results.rows:
        case = result.row.case
        title = TITLES[case.kind]
        if case.device == "gpu":
            title = title.replace(", on one core", "").replace(" on one core", "")
            title += f", on {results.versions.get(OURS, {}).get('device', 'a GPU')}"
        by_title.setdefault(title, {}).setdefault(case, []).append(result)
    found = [
        Section(title, tuple(_entry(case, rows) for case, rows in cases.items()))
        for title, cases in by_title.items()
    ]
    if results.growth:
        grown = tuple(map(_growth, results.growth))
        found.append(Section("Growth of ours with T, as exponents", grown))
    return tuple(found)


def _entry(case: Case, rows: list[RowResult]) -> Entry:
    ours = Line(OURS, case, rows[0].ours)
    theirs = [Line(r.row.peer_name, r.row.theirs.case, r.theirs, r) for r in rows]
    goals = [_goal(r, alone=len(rows) == 1) for r in rows if r.row.target is not None]
    failed = [f"failed: {r.failure}" for r in rows if r.failure is not None]
    notes = ["goals: " + "; ".join(goals)] if goals else []
    passes = "" if case.passes == "both" else ", forward"
    heading = f"{case.label}: {case.shape}{passes}"
    return Entry(heading, (ours, *theirs), (*notes, *dict.fromkeys(failed)))


def _goal(result: RowResult, *, alone: bool) -> str:
    row = result.row
    name = "" if alone else f"{row.peer_name} "
    aim = "" if row.aim is None else f", aim {row.aim:.2g}"
    reached = "" if result.reached is None else f" ({result.reached})"
    return f"{name}{row.target:.2g}{aim}{reached}"


def _growth(result: GrowthResult) -> Entry:
    growth = result.growth
    lines = tuple(
        Line(f"T {case.time}", case, measured)
        for case, measured in zip(growth.cases, result.measured, strict=True)
    )
    time, memory = (
        "-" if exponent is None else f"{exponent:.2f}"
        for exponent in (result.time_exponent, result.memory_exponent)
    )
    reached = "" if result.reached is None else f" ({result.reached})"
    note = f"time {time}, at most {growth.target:g}{reached}; memory {memory}"
    return Entry(growth.cases[0].label, lines, (note,))


class Column(NamedTuple):
    """Column of a table, with a function from a line to its cell."""

    header: str
    cell: Callable[[Line], str]


def _columns(results: Results) -> tuple[Column, ...]:
    """Return all columns; `_tables` drops those without numbers."""
    wall = f"x{results.wall_cores} ms"
    return (
        Column("CPU ms", lambda x: _milliseconds(x.measured.cpu)),
        Column("ms", _wall),
        Column(wall, lambda x: _milliseconds(x.measured.all_cores)),
        Column("tok/s", _tokens_per_second),
        Column("first", _first),
        Column("MB", lambda x: _megabytes(x.measured.peak_bytes)),
        Column("ratio", lambda x: _ratio(x.row and x.row.ratio)),
        Column("min..max", lambda x: _range(x.row and x.row.ratio)),
        Column(f"x{results.wall_cores}", lambda x: _ratio(x.row and x.row.wall_ratio)),
        Column("error", lambda x: _error(x, "output")),
        Column("grad", lambda x: _error(x, "gradient")),
    )


def _wall(line: Line) -> str:
    return "-" if line.case.clock == "cpu" else _milliseconds(line.measured.wall)


def _tokens_per_second(line: Line) -> str:
    seconds = median(line.measured.seconds(line.case.clock))
    if seconds is None or line.case.kind in ("operation", "prompt"):
        return "-"
    return f"{line.case.tokens / seconds:.0f}"


def _first(line: Line) -> str:
    """Return seconds to the first pass; other kinds use a compilation cache."""
    first = line.measured.first_seconds
    cold = line.case.kind in ("step", "read", "generate")
    return f"{first:.1f}" if cold and first is not None else "-"


def _error(line: Line, name: str) -> str:
    if line.row is None or line.row.errors is None:
        return "-"
    if name == "gradient" and line.case.passes == "forward":
        return "-"
    return f"{getattr(line.row.errors, name):.0e}"


def _tables(
    results: Results,
) -> Iterable[tuple[Section, list[str], list[list[list[str]]]]]:
    """Yield every section with its header and, by entry, its lines of cells."""
    for section in sections(results):
        columns = _columns(results)
        cells = [
            [[line.name, *(c.cell(line) for c in columns)] for line in entry.lines]
            for entry in section.entries
        ]
        header = ["", *(column.header for column in columns)]
        shown = [
            index
            for index in range(len(header))
            if any(line[index] != "-" for entry in cells for line in entry)
        ]
        yield (
            section,
            [header[index] for index in shown],
            [[[line[index] for index in shown] for line in each] for each in cells],
        )


def as_text(results: Results) -> str:
    """Return the tables for a terminal of `WIDTH` columns."""
    lines: list[str] = []
    for section, header, cells in _tables(results):
        table = [header, *(line for entry in cells for line in entry)]
        widths = [max(len(line[i]) for line in table) for i in range(len(header))]
        lines += ["", section.title, _aligned(header, widths)]
        for entry, rows in zip(section.entries, cells, strict=True):
            lines += [entry.heading, *(_aligned(row, widths) for row in rows)]
            lines += [f"  {note}" for note in entry.notes]
    return "\n".join([*lines, "", *_remarks(results), *load_warning(results)]).strip()


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    others = (
        cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)
    )
    return "  " + " ".join([first, *others]).rstrip()


def as_markdown(results: Results, command: str, date: str) -> str:
    """Return the page of a run: how it was made, where, and the tables."""
    facts = [f"{key}: {value}" for key, value in machine().items()]
    versions: dict[str, str] = {}
    for found in results.versions.values():
        versions |= found
    peers = dict.fromkeys(
        f"{r.row.case.label} against {r.row.peer_name} `{r.row.peer_function}`"
        for r in results.rows
    )
    pinning = "pinned to one core" if can_pin() else "not pinned to a core"
    parts = [
        "# Comparison with the peers",
        f"Made by `{command}` on {date}.",
        f"Machine: {'; '.join(facts)}.",
        "Versions: " + ", ".join(f"{k} {v}" for k, v in sorted(versions.items())) + ".",
        "Peers: " + "; ".join(peers) + ".",
        "Every side is a process that runs during a whole stage. Each round measures a "
        "case once for the peer and once for ours, one directly after the other, in an "
        "order that alternates. The ratio (peer over ours, above 1: ours is faster) is "
        "the median over the rounds. It compares processor time with one "
        f"thread, {pinning}; for whole models and on a GPU, wall time. Every process "
        "keeps freed memory, so that page faults are not measured.",
        *_remarks(results),
        *load_warning(results),
    ]
    for section, header, cells in _tables(results):
        parts += [f"## {section.title}", *_page_table(section, header, cells)]
    return "\n\n".join(parts) + "\n"


def _page_table(
    section: Section, header: list[str], cells: list[list[list[str]]]
) -> tuple[str, ...]:
    lines = [["case", "side", *header[1:]]]
    lines.append(["---", "---", *("---:" for _ in header[1:])])
    notes = []
    for entry, rows in zip(section.entries, cells, strict=True):
        lines += [[entry.heading, *row] for row in rows]
        notes += [f"- {entry.heading}: {note}" for note in entry.notes]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return (table, "\n".join(notes)) if notes else (table,)


def _remarks(results: Results) -> tuple[str, ...]:
    """Return explanations of the columns that the tables have."""
    rows = [result.row for result in results.rows]
    cases = [row.case for row in rows]
    found: list[str] = []
    if any(row.differs is None for row in rows):
        found.append(
            "error: largest absolute difference from the peer's output (a step's: "
            "from its loss); grad: worst difference of a gradient as a share of its "
            "largest entry."
        )
    if any(case.clock == "cpu" for case in cases):
        found.append(
            f"x{results.wall_cores}: wall time on {results.wall_cores} cores. MB: "
            "memory that one pass adds."
        )
    if any(case.kind in ("step", "read", "generate") for case in cases):
        found.append(
            "Whole models run on all cores. first: seconds until the end of the first "
            "pass, compilation included. MB: peak memory of the whole process."
        )
    if any(case.update_every is not None for case in cases):
        found.append(
            "The number after a slash is update_every: gradients of this many tokens "
            "are taken at the weights before them."
        )
    if any(case.num_memories is not None for case in cases):
        found.append(
            "The number after mixture is the number of memories. Each token writes and "
            "reads two at random; one: one of the two is the same for all "
            "tokens; two: both are."
        )
    differing = dict.fromkeys(
        f"{row.peer_name} in {row.case.label} ({row.differs})"
        for row in rows
        if row.differs is not None and row.case.kind == "operation"
    )
    if differing:
        found.append(
            "Some peers compute something else at the same shapes, so the tables show "
            f"no error: {'; '.join(differing)}."
        )
    return tuple(found)


def load_warning(results: Results) -> tuple[str, ...]:
    """Return one sentence if other work kept the cores busy, else none."""
    load = results.load_before
    if load is None or load < BUSY:
        return ()
    return (
        f"The machine was busy when the run began (load {load:.1f}): this affects "
        "ratios of CPU time little, but do not trust wall times.",
    )


def machine() -> dict[str, str]:
    """Return a description of the machine."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "processor": model,
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def as_json(results: Results) -> dict[str, Any]:
    """Return all measurements, rounds included, in seconds and bytes."""
    return {
        "schema": 2,
        "machine": machine(),
        "pinned": can_pin(),
        "versions": results.versions,
        "wall_cores": results.wall_cores,
        "load_before": results.load_before,
        "rows": [_row_json(row) for row in results.rows],
        "growth": [_growth_json(growth) for growth in results.growth],
    }


def _row_json(result: RowResult) -> dict[str, Any]:
    row = result.row
    fields = ("peer", "peer_name", "peer_function", "target", "aim", "differs")
    return {
        "name": row.name,
        "case": asdict(row.case),
        **{name: getattr(row, name) for name in fields},
        "reached": result.reached,
        "ratio": result.ratio._asdict() if result.ratio else None,
        "wall_ratio": result.wall_ratio._asdict() if result.wall_ratio else None,
        "ours": asdict(result.ours),
        "theirs": asdict(result.theirs),
        "errors": result.errors._asdict() if result.errors else None,
        "failure": result.failure,
    }


def _growth_json(result: GrowthResult) -> dict[str, Any]:
    return {
        **asdict(result.growth),
        "measured": [asdict(each) for each in result.measured],
        "time_exponent": result.time_exponent,
        "memory_exponent": result.memory_exponent,
        "reached": result.reached,
    }


def _number(value: float) -> str:
    """Return a ratio in at most four characters."""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}"


def _ratio(ratio: Ratio | None) -> str:
    return "-" if ratio is None else _number(ratio.median)


def _range(ratio: Ratio | None) -> str:
    return "-" if ratio is None else f"{_number(ratio.low)}..{_number(ratio.high)}"


def _milliseconds(rounds: Sequence[float]) -> str:
    seconds = median(rounds)
    if seconds is None:
        return "-"
    digits = 2 if seconds < 0.01 else 1 if seconds < 0.1 else 0
    return f"{1e3 * seconds:.{digits}f}"


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.0f}"
