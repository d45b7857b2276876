"""Our operations on a GPU beside the kernels that a user would pick there.

Both sides live through the whole run, each in a process of its own, and take turns.
Seconds are those of the clock, from the first of many passes to the end of the last.
"""

import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from memzoo.errors import MemzooError

from .cases import (
    COARSE,
    DENSE,
    NEURAL_MEMORY,
    OWN_PEERS,
    Case,
    Operation,
    Peer,
    select_named,
)
from .contestant import Contestant, ContestantError, keep_compiled, usable_cores
from .environments import interpreter
from .inputs import make_inputs
from .measures import Errors, Ratio, errors_between, paired_ratio

OURS = "memzoo"
WORKER = Path(__file__).parent / "worker_gpu_torch.py"

Dtype = Literal["bfloat16", "float32"]


@dataclass(frozen=True, kw_only=True)
class GpuRow:
    """A case beside a peer, and how many times faster ours is meant to be.

    Attributes:
        backward: forward and backward, not forward alone.
        differs: what the peer computes otherwise; None: results are compared.
    """

    case: Case
    peer: Peer
    peer_function: str
    target: float
    backward: bool = True
    dtype: Dtype = "bfloat16"
    differs: str | None = None

    @property
    def name(self) -> str:
        return f"{self.case.name}:{'both' if self.backward else 'forward'}"

    @property
    def shape(self) -> str:
        """The sizes in words."""
        case = self.case
        return f"{case.batch_size}x{case.time}x{case.num_heads}x{case.head_size}"


@dataclass(frozen=True, kw_only=True)
class GpuResult:
    """A row of the table. Seconds a pass, a round each; bytes that one pass adds.

    Attributes:
        failure: what a contestant said that could not do the row; else None.
    """

    row: GpuRow
    peer_seconds: tuple[float, ...] = ()
    our_seconds: tuple[float, ...] = ()
    peer_bytes: int | None = None
    our_bytes: int | None = None
    errors: Errors | None = None
    failure: str | None = None

    @property
    def ratio(self) -> Ratio:
        return paired_ratio(self.peer_seconds, self.our_seconds)

    @property
    def medians(self) -> tuple[float, float]:
        """Seconds of the peer and of ours."""
        return statistics.median(self.peer_seconds), statistics.median(self.our_seconds)


def _shapes(operation: Operation, update_every: int | None = None) -> tuple[Case, Case]:
    """Many short rows with small heads, and one long row with large ones."""
    short = Case(
        operation=operation,
        time=2048,
        batch_size=8,
        num_heads=8,
        update_every=update_every,
    )
    return short, replace(short, time=8192, batch_size=1, num_heads=16, head_size=128)


def _rows(
    cases: tuple[Case, ...],
    peer: Peer,
    peer_function: str,
    target: float,
    **others: Any,
) -> tuple[GpuRow, ...]:
    return tuple(
        GpuRow(
            case=case, peer=peer, peer_function=peer_function, target=target, **others
        )
        for case in cases
    )


def _memory(time: int, update_every: int) -> Case:
    return Case(operation="titans_lmm", time=time, update_every=update_every)


def _mixture(num_memories: int) -> Case:
    return Case(operation="mixture", time=2048, batch_size=4, num_memories=num_memories)


_GATED_DELTA = "ops.gated_delta_rule.chunk_gated_delta_rule"

ROWS: tuple[GpuRow, ...] = (
    *_rows(
        _shapes("attention"), "torch", "nn.functional.scaled_dot_product_attention", 0.9
    ),
    *_rows(_shapes("retention"), "fla", "ops.simple_gla.chunk_simple_gla", 1 / 3),
    *_rows(_shapes("delta"), "fla", "ops.delta_rule.chunk_delta_rule", 0.25),
    *_rows(
        _shapes("delta"), "fla", "ops.delta_rule.chunk_delta_rule", 0.25, backward=False
    ),
    # Backward the peer refuses to run on Hopper with Triton before 3.7.1.
    *_rows(_shapes("gated_delta"), "fla", _GATED_DELTA, 0.25),
    *_rows(_shapes("gated_delta"), "fla", _GATED_DELTA, 0.25, backward=False),
    *_rows(
        _shapes("ttt", update_every=16)[:1],
        "fla",
        "ops.ttt.chunk_ttt_linear",
        0.25,
        differs="it adds the read before its norm, not the query",
    ),
    *_rows(
        (_memory(1024, 64), _memory(4096, 64)),
        "titans",
        NEURAL_MEMORY,
        2.0,
        dtype="float32",
        differs=COARSE,
    ),
    *_rows(
        (_memory(1024, 16), _memory(4096, 16)),
        "titans",
        NEURAL_MEMORY,
        3.2,
        dtype="float32",
        differs=COARSE,
    ),
    *_rows((_mixture(4),), "dense", DENSE, 1.4),
    *_rows((_mixture(8),), "dense", DENSE, 2.5),
)


def select_gpu_rows(names: str | None) -> tuple[GpuRow, ...]:
    """The rows of the operations named, comma separated, or of one length of them.

    Raises:
        MemzooError: a name that no row has.
    """
    return select_named(names, {row: row.name for row in ROWS}, " on a GPU")


def gpu_peers(rows: tuple[GpuRow, ...]) -> list[Peer]:
    """The peers that need an environment, each once."""
    return list(dict.fromkeys(r.peer for r in rows if r.peer not in OWN_PEERS))


def gpu_commands(folder: Path) -> Callable[[str], list[str]]:
    """What to run for ours and for every peer."""

    def command(name: str) -> list[str]:
        ours = [sys.executable, "-m", "memzoo.benchmarks.worker_gpu"]
        if name == OURS:
            return ours
        if name in OWN_PEERS:
            return [*ours, name]
        python = str(interpreter(folder, name))  # type: ignore[arg-type]
        return [python, "-I", str(WORKER), name]

    return command


def ask_gpu(ask: Callable[[], dict[str, str]]) -> dict[str, str]:
    """What our contestant answers, which computes on a GPU.

    Raises:
        MemzooError: JAX finds none.
    """
    try:
        return ask()
    except ContestantError as error:
        raise MemzooError(
            "JAX finds no GPU; install memzoo[gpu] where there is one, or leave out "
            f"gpu ({_first_line(error)})"
        ) from error


def count_gpu(rows: tuple[GpuRow, ...], rounds: int) -> int:
    """How often `measure_gpu` calls `advance`."""
    return len(rows) * (2 + rounds)


class _Contestants:
    """Processes by name, begun when they are first asked, and again if they ended."""

    def __init__(
        self, commands: Callable[[str], list[str]], variables: Mapping[str, str]
    ) -> None:
        self._commands = commands
        self._variables = variables
        self._there: dict[str, Contestant] = {}

    def ask(self, who: str, command: str, **fields: Any) -> dict[str, Any]:
        if who not in self._there:
            given = self._commands(who), usable_cores(), self._variables, "gpu"
            self._there[who] = Contestant(who, *given)
        return self._there[who].ask(command, **fields)

    def close(self, *names: str) -> None:
        """End those named, or all."""
        for name in names or tuple(self._there):
            if name in self._there:
                self._there.pop(name).close()


@contextmanager
def _contestants(
    commands: Callable[[str], list[str]], folder: Path
) -> Iterator[_Contestants]:
    there = _Contestants(commands, keep_compiled(folder))
    try:
        yield there
    finally:
        there.close()


def measure_gpu(
    rows: tuple[GpuRow, ...],
    *,
    rounds: int,
    minimum_seconds: float,
    seed: int,
    options: Mapping[str, Any],
    advance: Callable[[str], None],
    found: Callable[[GpuResult], None],
    versions: dict[str, str],
    commands: Callable[[str], list[str]],
) -> None:
    """Measure row by row. A row that a contestant cannot do does not end the run.

    Args:
        options: `chunk_size` and `form` of our operations.
        advance: told what begins; called at most `count_gpu(rows, rounds)` times.
        found: told every result at once, so that none is lost with a later row.
        versions: given those of what computed, and the device.
        commands: name of a contestant -> the process to run.

    Raises:
        MemzooError: JAX finds no GPU.
    """
    with (
        tempfile.TemporaryDirectory() as path,
        _contestants(commands, Path(path)) as there,
    ):
        versions |= ask_gpu(lambda: there.ask(OURS, "versions"))
        for row in rows:
            try:
                versions |= there.ask(row.peer, "versions")
                result = _measure(
                    row, there, Path(path), rounds, minimum_seconds, seed, options,
                    advance,
                )  # fmt: skip
            except ContestantError as error:
                result = GpuResult(row=row, failure=_first_line(error))
                # Whatever they hold of the row goes with them.
                there.close(row.peer, OURS)
            found(result)


def _measure(
    row: GpuRow,
    there: _Contestants,
    folder: Path,
    rounds: int,
    minimum_seconds: float,
    seed: int,
    options: Mapping[str, Any],
    advance: Callable[[str], None],
) -> GpuResult:
    sides = (row.peer, OURS)
    arrays: dict[str, Any] = dict(make_inputs(row.case, seed))
    np.savez(folder / "inputs.npz", **arrays)
    outputs, repeats, peaks = {}, {}, {}
    seconds: dict[str, list[float]] = {who: [] for who in sides}
    for who in sides:
        advance(f"preparing {row.name}: {who}")
        path = folder / f"{who}.npz"
        there.ask(
            who,
            "prepare",
            name=row.name,
            operation=row.case.operation,
            inputs=str(folder / "inputs.npz"),
            outputs=str(path),
            options=_options(row, options),
        )
        with np.load(path) as stored:
            outputs[who] = dict(stored)
        peaks[who] = there.ask(who, "memory", name=row.name)["peak_bytes"]
        once = there.ask(who, "run", name=row.name, repeats=3)["wall_seconds"]
        repeats[who] = max(1, math.ceil(minimum_seconds / max(once, 1e-5)))
    for index in range(rounds):
        advance(f"{row.name}, round {index + 1}/{rounds}")
        for who in sides if index % 2 == 0 else reversed(sides):
            answer = there.ask(who, "run", name=row.name, repeats=repeats[who])
            seconds[who].append(answer["wall_seconds"])
    for who in sides:
        there.ask(who, "forget", name=row.name)
    peer, ours = sides
    return GpuResult(
        row=row,
        peer_seconds=tuple(seconds[peer]),
        our_seconds=tuple(seconds[ours]),
        peer_bytes=peaks[peer],
        our_bytes=peaks[ours],
        errors=None if row.differs else errors_between(outputs[peer], outputs[ours]),
    )


def _first_line(error: Exception) -> str:
    """Compilers say a lot."""
    return str(error).strip().splitlines()[0]


def _options(row: GpuRow, options: Mapping[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {"dtype": row.dtype, "backward": row.backward}
    own["chunk_size"] = options["chunk_size"]
    if row.case.update_every is not None:
        return own | {"update_every": row.case.update_every}
    return own | {"form": options["form"]}
