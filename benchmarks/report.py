"""The results as a table, as JSON and as a page."""

import math
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from .contestant import can_pin
from .measures import Ratio
from .runner import GrowthResult, Results, RowResult

WIDTH = 100
# Load from which on a contestant has to share its core.
BUSY = 0.5


class Sheet(NamedTuple):
    """One table, in text."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sheets(results: Results) -> tuple[Sheet, ...]:
    """The tables of a report; one without rows is left out."""
    cores = results.wall_cores
    all_sheets = (
        Sheet(
            "Forward and backward, float32, B 1, H 4, D 64, one core; goal: target/aim",
            (
                "operation",
                "T",
                "peer",
                "CPU ms",
                "ours",
                "ratio",
                "min..max",
                "goal",
                "reached",
                f"wall x{cores}",
                "error",
                "grad",
            ),
            tuple(_speed(row) for row in results.rows),
        ),
        Sheet(
            f"Wall time on {cores} cores, and memory that one pass adds",
            (
                "operation",
                "T",
                "wall ms",
                "ours",
                "ratio",
                "min..max",
                "peak MB",
                "ours",
                "ours/peer",
            ),
            tuple(_wall_and_memory(row) for row in results.rows),
        ),
        Sheet(
            "Growth of ours with T: exponents of CPU time and of memory",
            (
                "operation",
                "T",
                "CPU ms",
                "time",
                "target",
                "reached",
                "peak MB",
                "memory",
            ),
            tuple(_growth(growth) for growth in results.growth),
        ),
    )
    return tuple(sheet for sheet in all_sheets if sheet.rows)


def as_renderable(results: Results) -> RenderableType:
    """The tables for a terminal of `WIDTH` columns."""
    return Group(*(_table(sheet) for sheet in sheets(results)), *load_warning(results))


def as_json(results: Results) -> dict[str, Any]:
    """Everything that was measured, rounds included; seconds and bytes."""
    return {
        "schema": 1,
        "machine": machine(),
        "pinned": can_pin(),
        "versions": results.versions,
        "wall_cores": results.wall_cores,
        "load_before": results.load_before,
        "rows": [_row_json(row) for row in results.rows],
        "growth": [_growth_json(growth) for growth in results.growth],
    }


def as_markdown(results: Results, command: str, date: str) -> str:
    """The page of a run: how it was made, where, and the tables."""
    facts = [f"{key}: {value}" for key, value in machine().items()]
    versions: dict[str, str] = {}
    for found in results.versions.values():
        versions |= found
    peers = dict.fromkeys(
        f"{row.case.operation} against {row.peer} `{row.peer_function}`"
        for row in (result.row for result in results.rows)
    )
    pinning = (
        "held on one core" if can_pin() else "not pinned: this system has no way to"
    )
    parts = [
        "# Operations on a CPU, beside their peers",
        f"Made by `{command}` on {date}.",
        f"Machine: {'; '.join(facts)}.",
        "Versions: " + ", ".join(f"{k} {v}" for k, v in sorted(versions.items())) + ".",
        "Peers: " + "; ".join(peers) + ".",
        "Every contestant is a process of its own that lives through the whole run. In "
        "each round every row is measured once for the peer and once for ours, side by "
        "side; who begins alternates. The ratio (peer over ours, above 1: ours is "
        "faster) is the median over the rounds of the ratio of CPU times, "
        f"{pinning} with one thread; freed memory stays with every process, a peer's "
        "or ours, so that page faults are not measured. "
        f"`wall x{results.wall_cores}` is the ratio of wall "
        "times with all cores. `error` is the largest absolute difference from the "
        "peer's output, `grad` the worst difference of a gradient as a share of "
        "its largest entry. Memory is what one pass adds to the resident memory of "
        "the process.",
        *_differences(results),
        *_strokes(results),
        *load_warning(results),
        *(f"## {sheet.title}\n\n{_markdown_table(sheet)}" for sheet in sheets(results)),
    ]
    return "\n\n".join(parts) + "\n"


def _differences(results: Results) -> tuple[str, ...]:
    """One sentence on the peers whose results are not to be compared; none if none."""
    found = dict.fromkeys(
        f"{result.row.peer} in {result.row.case.operation.replace('_', ' ')} "
        f"({result.row.differs})"
        for result in results.rows
        if result.row.differs is not None
    )
    if not found:
        return ()
    return (
        "Some peers compute something else at the same shapes, and the errors are left "
        f"out: {'; '.join(found)}.",
    )


def _strokes(results: Results) -> tuple[str, ...]:
    """What the words behind operations say; none if there are none."""
    cases = [result.row.case for result in results.rows]
    said: list[str] = []
    if any(case.update_every is not None for case in cases):
        said.append(
            "A number behind a stroke: all gradients of so many tokens are taken at "
            "the weights before them."
        )
    if any(case.num_memories is not None for case in cases):
        said.append(
            "A number behind mixture: of so many memories every token writes and reads "
            "two, by chance; `one`: one of the two is the same for all tokens; `two`: "
            "both are."
        )
    return (" ".join(said),) if said else ()


def load_warning(results: Results) -> tuple[str, ...]:
    """One sentence if other work kept the cores busy, else none."""
    load = results.load_before
    if load is None or load < BUSY:
        return ()
    return (
        f"The machine was busy when the run began (load {load:.1f}): ratios of CPU "
        "time are little affected, wall times are not to be trusted.",
    )


def machine() -> dict[str, str]:
    """What the numbers hold for."""
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


def _speed(result: RowResult) -> tuple[str, ...]:
    row = result.row
    return (
        row.case.label,
        str(row.case.time),
        row.peer,
        _milliseconds(result.peer_cpu_seconds),
        _milliseconds(result.our_cpu_seconds),
        f"{result.ratio.median:.2f}",
        _range(result.ratio),
        f"{row.target:g}/{row.aim:g}",
        result.reached,
        f"{result.wall_ratio.median:.2f}" if result.wall_ratio else "-",
        f"{result.errors.output:.0e}" if result.errors else "-",
        f"{result.errors.gradient:.0e}" if result.errors else "-",
    )


def _wall_and_memory(result: RowResult) -> tuple[str, ...]:
    peer, ours = result.peer_peak_bytes, result.our_peak_bytes
    share = f"{ours / peer:.2f}" if peer and ours is not None else "-"
    return (
        result.row.case.label,
        str(result.row.case.time),
        _milliseconds(result.peer_wall_seconds),
        _milliseconds(result.our_wall_seconds),
        f"{result.wall_ratio.median:.2f}" if result.wall_ratio else "-",
        _range(result.wall_ratio) if result.wall_ratio else "-",
        _megabytes(peer),
        _megabytes(ours),
        share,
    )


def _growth(result: GrowthResult) -> tuple[str, ...]:
    memory = result.memory_exponent
    return (
        result.growth.cases[0].label,
        _join(str(time) for time in result.growth.times),
        _join(_milliseconds(seconds) for seconds in result.cpu_seconds),
        f"{result.time_exponent:.2f}",
        f"<= {result.growth.target:g}",
        result.reached,
        _join(_megabytes(peak) for peak in result.peak_bytes),
        "-" if memory is None else f"{memory:.2f}",
    )


def _table(sheet: Sheet) -> Table:
    table = Table(
        title=sheet.title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 0),
        pad_edge=False,
        show_edge=False,
        width=None,
    )
    for index, name in enumerate(sheet.header):
        text = name in ("operation", "peer", "reached")
        table.add_column(
            name, justify="left" if text or index == 0 else "right", no_wrap=True
        )
    for row in sheet.rows:
        table.add_row(*row)
    return table


def _markdown_table(sheet: Sheet) -> str:
    lines = [sheet.header, tuple("---" for _ in sheet.header), *sheet.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _row_json(result: RowResult) -> dict[str, Any]:
    row = result.row
    return {
        "operation": row.case.operation,
        "time": row.case.time,
        "batch_size": row.case.batch_size,
        "num_heads": row.case.num_heads,
        "head_size": row.case.head_size,
        "update_every": row.case.update_every,
        "num_memories": row.case.num_memories,
        "preferred": row.case.preferred,
        "peer": row.peer,
        "peer_function": row.peer_function,
        "target": row.target,
        "aim": row.aim,
        "reached": result.reached,
        "ratio": result.ratio._asdict(),
        "wall_ratio": result.wall_ratio._asdict() if result.wall_ratio else None,
        "peer_cpu_seconds": result.peer_cpu_seconds,
        "our_cpu_seconds": result.our_cpu_seconds,
        "peer_wall_seconds": result.peer_wall_seconds,
        "our_wall_seconds": result.our_wall_seconds,
        "peer_peak_bytes": result.peer_peak_bytes,
        "our_peak_bytes": result.our_peak_bytes,
        "differs": row.differs,
        "output_error": result.errors.output if result.errors else None,
        "gradient_error": result.errors.gradient if result.errors else None,
        "rounds": result.rounds,
    }


def _growth_json(result: GrowthResult) -> dict[str, Any]:
    exponent = result.memory_exponent
    return {
        "operation": result.growth.operation,
        "update_every": result.growth.update_every,
        "times": list(result.growth.times),
        "cpu_seconds": list(result.cpu_seconds),
        "peak_bytes": list(result.peak_bytes),
        "time_exponent": result.time_exponent,
        "memory_exponent": None
        if exponent is None or math.isnan(exponent)
        else exponent,
        "target": result.growth.target,
        "reached": result.reached,
    }


def _range(ratio: Ratio) -> str:
    return f"{ratio.low:.2f}..{ratio.high:.2f}"


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    digits = 1 if seconds < 0.1 else 0
    return f"{1e3 * seconds:.{digits}f}"


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.0f}"


def _join(texts: Iterable[str]) -> str:
    return " ".join(texts)
