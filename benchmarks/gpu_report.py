"""The results of a GPU as a table, as JSON and as a page."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .gpu import GpuResult

HEADER = (
    ("operation", False),
    ("BxTxHxD", False),
    ("pass", False),
    ("peer", False),
    ("ms", True),
    ("ours", True),
    ("ratio", True),
    ("min..max", True),
    ("goal", True),
    ("MB", True),
    ("ours", True),
    ("error", True),
    ("grad", True),
)


def gpu_table(results: Sequence[GpuResult], versions: Mapping[str, str]) -> Group:
    """The rows for a terminal, and why rows are missing."""
    device = versions.get("device", "GPU")
    table = Table(
        title=f"{device}: a pass, by the clock; ratio: peer over ours",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 0),
        pad_edge=False,
        show_edge=False,
    )
    for name, number in HEADER:
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    for result in results:
        table.add_row(*_cells(result))
    # What a compiler says may hold brackets, which are no markup.
    parts: list[RenderableType] = [table, *map(Text, _failures(results))]
    return Group(*parts)


def gpu_json(
    results: Sequence[GpuResult], versions: Mapping[str, str]
) -> dict[str, Any]:
    """Everything that was measured, rounds included; seconds and bytes."""
    return {
        "schema": 1,
        "versions": dict(versions),
        "rows": [_row_json(result) for result in results],
    }


def gpu_markdown(
    results: Sequence[GpuResult], versions: Mapping[str, str], command: str, date: str
) -> str:
    """The page of a run: how it was made, where, and the table."""
    peers = dict.fromkeys(
        f"{r.row.case.operation} against {r.row.peer} `{r.row.peer_function}`"
        for r in results
    )
    lines = [
        [name for name, _ in HEADER],
        ["---:" if number else "---" for _, number in HEADER],
        *(_cells(result) for result in results),
    ]
    differing = dict.fromkeys(
        f"{r.row.peer} in {r.row.case.operation} ({r.row.differs})"
        for r in results
        if r.row.differs
    )
    parts = [
        "# Operations on a GPU, beside their peers",
        f"Made by `{command}` on {date}.",
        "Device and versions: "
        + ", ".join(f"{k} {v}" for k, v in sorted(versions.items()))
        + ".",
        "Peers: " + "; ".join(peers) + ".",
        "Both sides live through the run, each in a process of its own; in each round "
        "a row is measured once for the peer and once for ours, and who begins "
        "alternates. A measurement is the time by the clock from the first of many "
        "passes to the end of the last, over their number; the ratio (peer over ours, "
        "above 1: ours is faster) is the median over the rounds. bfloat16, "
        "titans_lmm float32 with TF32 products on both sides. Memory is what one pass "
        "adds on the device. `error` is the largest absolute difference from the "
        "peer's output, `grad` the worst difference of a gradient as a share of its "
        "largest entry: both sides round to bfloat16. A number behind a stroke: all "
        "gradients of so many tokens are taken at the weights before them; behind "
        "mixture: of so many memories every token writes and reads two. `goal` is the "
        "ratio that was aimed at beforehand.",
    ]
    if differing:
        parts.append("Some peers compute something else: " + "; ".join(differing) + ".")
    parts += _failures(results)
    parts.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
    return "\n\n".join(parts) + "\n"


def _cells(result: GpuResult) -> list[str]:
    row = result.row
    words = ("both" if row.backward else "forward", row.peer)
    cells = [row.case.label, row.shape, *words]
    goal = f"{row.target:.2g}"
    if result.failure is not None:
        return [*cells, "failed", "-", "-", "-", goal, "-", "-", "-", "-"]
    errors = result.errors
    return [
        *cells,
        *(f"{1e3 * seconds:.2f}" for seconds in result.medians),
        f"{result.ratio.median:.2f}",
        f"{result.ratio.low:.2f}..{result.ratio.high:.2f}",
        goal,
        *(
            "-" if size is None else f"{size / 1e6:.0f}"
            for size in (result.peer_bytes, result.our_bytes)
        ),
        f"{errors.output:.0e}" if errors else "-",
        f"{errors.gradient:.0e}" if errors and row.backward else "-",
    ]


def _failures(results: Sequence[GpuResult]) -> list[str]:
    return [
        f"{result.row.name}: {result.failure}"
        for result in results
        if result.failure is not None
    ]


def _row_json(result: GpuResult) -> dict[str, Any]:
    row, errors = result.row, result.errors
    return {
        **vars(row.case),
        "dtype": row.dtype,
        "backward": row.backward,
        "peer": row.peer,
        "peer_function": row.peer_function,
        "target": row.target,
        "peer_seconds": list(result.peer_seconds),
        "our_seconds": list(result.our_seconds),
        "peer_bytes": result.peer_bytes,
        "our_bytes": result.our_bytes,
        "output_error": errors.output if errors else None,
        "gradient_error": errors.gradient if errors else None,
        "failure": result.failure,
    }
