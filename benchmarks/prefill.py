"""Reading a long prompt, and generating behind it, in one interleaved run.

Prefix linear attention beside our attention and PyTorch's, forward, float32 (on a GPU
bfloat16), at the head sizes of the preset text-jrt-360m: 16 heads, queries and keys of
16 numbers (153 features), values of 64; in attention queries and keys of 64. The whole
prompt is a prefix: it is written first, and then read causally behind that.
"""

import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich import box
from rich.console import Group
from rich.table import Table

from memzoo.errors import MemzooError

from .cases import listed_names
from .contestant import Contestant, Device, keep_compiled, usable_cores
from .environments import interpreter, require
from .gpu import ask_gpu
from .measures import paired_ratio

Kind = Literal["op", "block", "decode"]

OURS, PEER = "memzoo", "torch"
LAYER, BASELINE = "prefix_linear_attention", "attention"
# Times faster than PyTorch's attention, as JRT-RNN than FlashAttention-2 on an H100
# (arXiv 2407.05483).
TARGET = 19.0

LENGTHS = (8192, 32_768)
POSITIONS = (1024, 8192, 32_768)
HEADS, KEY, VALUE = 16, 16, 64

TORCH_DEVICE: Mapping[Device, str] = {"cpu": "cpu", "gpu": "cuda"}
DTYPE: Mapping[Device, str] = {"cpu": "float32", "gpu": "bfloat16"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is measured at one length, or at one place of a document."""

    kind: Kind
    time: int

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.time}"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One case. Seconds are processor time (on a GPU: of the clock), a round each, by
    who and which layer."""

    case: Case
    seconds: Mapping[str, list[float]]
    error: float | None
    """Largest difference of both attentions on the first tokens; None: of layers with
    weights of their own."""

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])


@dataclass(frozen=True, kw_only=True)
class PrefillResults:
    """All cases, and what computed."""

    measured: tuple[Measured, ...]
    versions: Mapping[str, Mapping[str, str]]
    rounds: int
    device: Device = "cpu"


def select_cases(names: str) -> tuple[Case, ...]:
    """Cases by name: op, block or decode, or one length of them; or all.

    Raises:
        MemzooError: there is no such case.
    """
    known = [Case(kind=kind, time=t) for kind in ("op", "block") for t in LENGTHS]
    known += [Case(kind="decode", time=t) for t in POSITIONS]
    if names == "all":
        return tuple(known)
    chosen: list[Case] = []
    for name in listed_names("prefill", names):
        found = [c for c in known if name in (c.kind, c.name)]
        if not found:
            raise MemzooError(
                f"no prefill is named {name!r}; choose among op, block and "
                "decode, or one length of them, such as op:32768"
            )
        chosen += [case for case in found if case not in chosen]
    return tuple(chosen)


def prefill_commands(
    folder: Path, threads: int, device: Device = "cpu"
) -> dict[str, list[str]]:
    """Runs ours in this interpreter and PyTorch in its own environment."""
    worker = Path(__file__).parent / "worker_prefill_torch.py"
    python = [str(interpreter(folder, "torch")), "-I"]
    return {
        OURS: [sys.executable, "-m", "memzoo.benchmarks.worker_prefill", device],
        PEER: [*python, str(worker), str(threads), TORCH_DEVICE[device]],
    }


def measure_prefill(
    cases: tuple[Case, ...],
    *,
    rounds: int,
    minimum_seconds: float,
    seed: int,
    advance: Callable[[str], None],
    commands: Mapping[str, list[str]],
    device: Device = "cpu",
) -> PrefillResults:
    """Time every contestant once a round, side by side, on one core or a GPU.

    Args:
        cases: what to measure.
        advance: told what begins; called `count_prefill(cases, rounds)` times.
        commands: the processes to run.

    Raises:
        ContestantError: a contestant failed.
        MemzooError: JAX finds no GPU, and one is asked for.
    """
    cores = usable_cores() if device == "gpu" else frozenset([max(usable_cores())])
    measured = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        there = {
            name: stack.enter_context(
                Contestant(name, command, cores, keep_compiled(folder), device)
            )
            for name, command in commands.items()
        }
        if device == "gpu":
            ask_gpu(lambda: there[OURS].ask("versions"))
        for case in cases:
            outputs = _prepare(case, there, folder, seed, advance, DTYPE[device])
            seconds = _rounds(case, there, rounds, minimum_seconds, advance, device)
            error = None
            if case.kind == "op":
                error = float(np.max(np.abs(outputs[BASELINE] - outputs[PEER])))
            measured.append(Measured(case=case, seconds=seconds, error=error))
        versions = {name: each.ask("versions") for name, each in there.items()}
    return PrefillResults(
        measured=tuple(measured), versions=versions, rounds=rounds, device=device
    )


def count_prefill(cases: tuple[Case, ...], rounds: int) -> int:
    """How often `measure_prefill` calls `advance`."""
    return sum(len(_turns(case)) for case in cases) * (rounds + 1)


def _turns(case: Case) -> dict[str, tuple[str, str]]:
    """By the name of its numbers, who runs what."""
    ours = {LAYER: (OURS, LAYER), BASELINE: (OURS, BASELINE)}
    return ours if case.kind == "decode" else ours | {PEER: (PEER, BASELINE)}


def _prepare(
    case: Case,
    there: Mapping[str, Contestant],
    folder: Path,
    seed: int,
    advance: Callable[[str], None],
    dtype: str,
) -> dict[str, np.ndarray]:
    """What every contestant puts out for the first tokens."""
    inputs = folder / "inputs.npz"
    np.savez(inputs, **_inputs(case, seed))  # type: ignore[arg-type]
    outputs = {}
    for name, (who, layer) in _turns(case).items():
        advance(f"preparing {case.name} {name}")
        path = folder / "outputs.npz"
        there[who].ask(
            "prepare",
            name=f"{case.name}:{layer}",
            operation=case.kind,
            inputs=str(inputs),
            outputs=str(path),
            options={"layer": layer, "position": case.time, "dtype": dtype},
        )
        with np.load(path) as stored:
            outputs[name] = stored["output"]
    return outputs


def _rounds(
    case: Case,
    there: Mapping[str, Contestant],
    rounds: int,
    minimum_seconds: float,
    advance: Callable[[str], None],
    device: Device,
) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in _turns(case)}
    repeats = dict.fromkeys(seconds, 1)
    # On a CPU a pass over the longest prompts takes a minute: caches do not matter.
    short = case.kind == "decode" or device == "gpu"
    clock = "wall_seconds" if device == "gpu" else "cpu_seconds"
    if short:
        for name, (who, layer) in _turns(case).items():
            answer = there[who].ask("run", name=f"{case.name}:{layer}", repeats=1)
            once = max(answer["wall_seconds"], 1e-5)
            repeats[name] = max(1, round(minimum_seconds / once))
    for index in range(rounds):
        order = list(_turns(case).items())
        for name, (who, layer) in order if index % 2 == 0 else reversed(order):
            advance(f"{case.name}, round {index + 1}/{rounds}: {name}")
            answer = there[who].ask(
                "run",
                name=f"{case.name}:{layer}",
                repeats=repeats[name],
                warm=short,
            )
            seconds[name].append(answer[clock])
    return seconds


def _inputs(case: Case, seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng([seed, case.time])

    def draw(*shape: int) -> np.ndarray:
        return generator.standard_normal((1, *shape), np.float32)

    if case.kind != "op":
        time = 1 if case.kind == "decode" else case.time
        return {"x": draw(time, HEADS * VALUE)}
    inputs = {name: draw(case.time, HEADS, KEY) for name in ("q", "k", "k_prefix")}
    names = ("v", "v_prefix", "q_attention", "k_attention")
    return inputs | {name: draw(case.time, HEADS, VALUE) for name in names}


def prefill_tables(results: PrefillResults) -> Group:
    """The results as tables for a terminal."""
    read = [m for m in results.measured if m.case.kind != "decode"]
    steps = [m for m in results.measured if m.case.kind == "decode"]
    parts = []
    gpu = results.device == "gpu"
    where = "GPU" if gpu else "core"
    if gpu:
        where = results.versions.get(OURS, {}).get("device", where)
    if read:
        clock = f"ms on {where}, bfloat16" if gpu else "CPU seconds of one core"
        unit, scale = ("ms", 1e3) if gpu else ("s", 1.0)
        table = _table(
            f"Prefill of one row, forward, {clock}, {results.rounds} "
            "rounds: prefix linear attention, our attention, PyTorch's, and how many "
            "times the first is faster",
            (
                "",
                "tokens",
                f"prefix {unit}",
                f"ours {unit}",
                f"torch {unit}",
                "ours",
                "torch",
                "of rounds",
            ),
        )
        for m in read:
            ours, torch = (
                paired_ratio(m.seconds[name], m.seconds[LAYER])
                for name in (BASELINE, PEER)
            )
            table.add_row(
                {"op": "operation", "block": "block"}[m.case.kind],
                f"{m.case.time:,}",
                *(f"{scale * m.median(n):.2f}" for n in (LAYER, BASELINE, PEER)),
                f"{ours.median:.1f} x",
                f"{torch.median:.1f} x",
                f"{torch.low:.1f}..{torch.high:.1f}",
            )
        parts.append(table)
    if steps:
        table = _table(
            f"One generated token of a block, ms of one {where}, by its place",
            ("layer", *(f"{m.case.time:,}" for m in steps)),
        )
        for name in (LAYER, BASELINE):
            times = (f"{1e3 * m.median(name):.2f}" for m in steps)
            table.add_row(name, *times)
        parts.append(table)
    return Group(*parts)


def prefill_json(results: PrefillResults) -> list[dict[str, Any]]:
    """The results as JSON; seconds of every round."""
    return [
        {
            "kind": m.case.kind,
            "tokens": m.case.time,
            "wall_seconds" if results.device == "gpu" else "cpu_seconds": dict(
                m.seconds
            ),
            "error": m.error,
            "versions": {who: dict(each) for who, each in results.versions.items()},
        }
        for m in results.measured
    ]


def require_torch(folder: Path) -> None:
    """Return if PyTorch's environment is there.

    Raises:
        PeerMissingError: it is not.
    """
    require(folder, ["torch"])


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    for index, name in enumerate(columns):
        side = "left" if index == 0 else "right"
        table.add_column(name, justify=side, no_wrap=True)
    return table
