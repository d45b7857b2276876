"""`memzoo bench`."""

import dataclasses
import datetime
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from memzoo.errors import InputError

from ..evals.figures import duration_text
from .cases import OWN_PEERS, Peer, peers_of, select_growth, select_rows
from .environments import prepare, require
from .gpu import (
    GpuResult,
    count_gpu,
    gpu_commands,
    gpu_peers,
    measure_gpu,
    select_gpu_rows,
)
from .gpu_report import gpu_json, gpu_markdown, gpu_table
from .prefill import (
    count_prefill,
    measure_prefill,
    prefill_commands,
    prefill_json,
    prefill_tables,
    require_torch,
    select_cases,
)
from .report import WIDTH, as_json, as_markdown, as_renderable
from .runner import Form, Plan, Results, count_steps, run_plan
from .throughput import (
    LayerShape,
    layers_command,
    measure_layers,
    select_layers,
    throughput_json,
    throughput_table,
)

# Seconds: an hour for one measurement is a slip, and infinity would never end.
_LONGEST_PASS = 3600


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """Measure our operations beside the libraries a user would pick instead.

    Ratios above 1 mean that ours is faster. For quick numbers while tuning:
    `memzoo bench --rows delta:2048 --rounds 5 --wall-rounds 0 --no-growth`.
    """

    rows: str | None = None
    """Operations, comma separated (on a CPU gated_delta, delta, scalar_decay,
    attention, titans_lmm, titans, ttt, titans_mlp, mixture), or one length of them
    (delta:2048), or one distance between updates at that length (titans_lmm:1024:16),
    or one number of memories (mixture:2048:4). None: all."""
    layers: str | None = None
    """Measure whole layers of ours instead: names, comma separated, or all. Fields
    that are not by default follow after strokes: retnet/num_heads=8."""
    prefill: str | None = None
    """Measure how long prompts are read, and tokens generated behind them, instead:
    op, block or decode, or one length of them (op:32768), comma separated, or all."""
    gpu: bool = False
    """Measure on a GPU instead, beside the kernels a user would pick there: other rows
    (attention, retention, delta, gated_delta, ttt, titans_lmm, mixture), bfloat16, the
    time by the clock. With prefill: that, on the GPU."""
    rounds: int = 7
    """Rounds: on one core with one thread, or on the GPU."""
    wall_rounds: int = 3
    """Rounds with all cores, for the wall time; 0 leaves them out. For a CPU."""
    growth: bool = True
    """Also fit how time and memory of the recurrent operations grow with length. For a
    CPU."""
    minimum_seconds: float = 0.3
    """A measurement repeats its pass until it lasts this long."""
    chunk_size: int | None = None
    """Tokens in a chunk (a block, for attention) of ours. None: as the operations
    choose. cuDNN's attention has none."""
    form: Form = "auto"
    """Form of our recurrent operations."""
    seed: int = 0
    """Seed of the inputs."""
    prepare: bool = False
    """Make the peers' environments (downloads PyTorch) instead of measuring."""
    peers: Path = Path(".peers")
    """Folder that holds the peers' environments."""
    python: Path | None = None
    """Interpreter that the peers' environments are made with. None: this one."""
    json: bool = False
    """Print everything that was measured as JSON."""
    markdown: Path | None = None
    """Also write the page of the run to this file."""

    def __post_init__(self) -> None:
        for name in ("layers", "prefill"):
            if getattr(self, name) is not None and self.markdown is not None:
                raise InputError(
                    f"markdown is {self.markdown}; the page is for operations, leave "
                    f"out {name}"
                )
        self._check_where()
        if self.rounds < 1:
            raise InputError(f"rounds is {self.rounds}; measure at least 1 round")
        if self.wall_rounds < 0:
            raise InputError(
                f"wall_rounds is {self.wall_rounds}; 0 leaves the wall time out"
            )
        if not 0 < self.minimum_seconds <= _LONGEST_PASS:
            raise InputError(
                f"minimum_seconds is {self.minimum_seconds}; give a time above 0, "
                f"{_LONGEST_PASS} or less"
            )
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed is {self.seed}; give 0 or more, below 2^32")
        if self.chunk_size is not None and self.chunk_size < 1:
            raise InputError(
                f"chunk_size is {self.chunk_size}; give at least 1, or leave it out"
            )

    def _check_where(self) -> None:
        """Refuses what would not be read."""
        plain = {field.name: field.default for field in dataclasses.fields(self)}
        if self.gpu and self.layers is not None:
            raise InputError("gpu is on; whole layers are measured on a CPU")
        for name in ("wall_rounds", "growth") if self.gpu else ():
            if getattr(self, name) != plain[name]:
                raise InputError(f"{name} is for a CPU; leave it out, or gpu")
        other = "prefill" if self.prefill is not None else "layers"
        if self.prefill is None and self.layers is None:
            return
        for name in ("rows", "chunk_size", "form", "wall_rounds", "growth"):
            if getattr(self, name) != plain[name]:
                raise InputError(
                    f"{name} is {getattr(self, name)}; it is for operations, leave it "
                    f"out, or {other}"
                )


def run(config: BenchConfig) -> int:
    """Make the peers' environments, or measure and print; the exit code.

    Raises:
        MemzooError: an unknown row, a peer without an environment, a contestant that
            failed.
    """
    console = Console(stderr=True)
    if config.layers is not None:
        _run_layers(config, config.layers, console)
        return 0
    if config.prefill is not None and not config.prepare:
        _run_prefill(config, config.prefill, console)
        return 0
    folder = config.peers.absolute()
    if config.prepare:
        _prepare_peers(config, folder, console)
        return 0
    if config.gpu:
        return _run_gpu(config, folder, console)
    rows = select_rows(config.rows)
    require(folder, _peers(config))
    plan = Plan(
        rows=rows,
        growth=select_growth(rows) if config.growth else (),
        rounds=config.rounds,
        wall_rounds=config.wall_rounds,
        minimum_seconds=config.minimum_seconds,
        seed=config.seed,
        peers_folder=folder,
        chunk_size=config.chunk_size,
        form=config.form,
    )
    with _progress(console, count_steps(plan)) as advance:
        results = run_plan(plan, advance)
    _publish(results, config)
    return 0


def _peers(config: BenchConfig) -> list[Peer]:
    """Those that the rows need an environment of."""
    if config.gpu:
        return gpu_peers(select_gpu_rows(config.rows))
    return [p for p in peers_of(select_rows(config.rows)) if p not in OWN_PEERS]


def _prepare_peers(config: BenchConfig, folder: Path, console: Console) -> None:
    with console.status("preparing") as status:

        def announce(line: str) -> None:
            status.update(line)
            console.print(line, highlight=False)

        python = str(config.python or sys.executable)
        prepare(folder, _peers(config), python, announce)


def command_line(config: BenchConfig) -> str:
    """The command that gives `config`, without what is only about the output."""
    words = ["memzoo", "bench"]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value == field.default or field.name in ("json", "markdown", "peers"):
            continue
        flag = field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", str(value)]
    return " ".join(words)


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal; elsewhere a line a step, so that a log says where it is."""
    if not console.is_terminal:
        yield _lines(console, total)
        return
    with Progress(
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=console,
        transient=True,
    ) as progress:
        task = progress.add_task("starting", total=total)

        def advance(text: str) -> None:
            progress.update(task, advance=1, description=text)

        yield advance


def _lines(console: Console, total: int) -> Callable[[str], None]:
    begun, steps = time.monotonic(), itertools.count()

    def advance(text: str) -> None:
        seconds, done = time.monotonic() - begun, next(steps)
        line = f"{done + 1}/{total}  {seconds:.0f} s  {text}"
        if done:
            left = seconds / done * (total - done)
            line += f"  (about {duration_text(left)} left)"
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    return advance


def _run_layers(config: BenchConfig, names: str, console: Console) -> None:
    layers = select_layers(names)
    with _progress(console, len(layers) * (config.rounds + 2)) as advance:
        results = measure_layers(
            layers,
            LayerShape(),
            rounds=config.rounds,
            minimum_seconds=config.minimum_seconds,
            advance=advance,
            command=layers_command(),
        )
    _print(throughput_table(results), throughput_json(results), config)


def _run_prefill(config: BenchConfig, names: str, console: Console) -> None:
    device = "gpu" if config.gpu else "cpu"
    cases = select_cases(names)
    folder = config.peers.absolute()
    require_torch(folder)
    with _progress(console, count_prefill(cases, config.rounds)) as advance:
        results = measure_prefill(
            cases,
            rounds=config.rounds,
            minimum_seconds=config.minimum_seconds,
            seed=config.seed,
            advance=advance,
            commands=prefill_commands(folder, 1, device),
            device=device,
        )
    _print(prefill_tables(results), prefill_json(results), config)


def _run_gpu(config: BenchConfig, folder: Path, console: Console) -> int:
    """The exit code: 1 where a row could not be measured."""
    rows = select_gpu_rows(config.rows)
    require(folder, _peers(config))
    results: list[GpuResult] = []
    versions: dict[str, str] = {}

    def found(result: GpuResult) -> None:
        results.append(result)
        _write_gpu(results, versions, config)

    with _progress(console, count_gpu(rows, config.rounds)) as advance:
        measure_gpu(
            rows,
            rounds=config.rounds,
            minimum_seconds=config.minimum_seconds,
            seed=config.seed,
            options={"chunk_size": config.chunk_size, "form": config.form},
            advance=advance,
            found=found,
            versions=versions,
            commands=gpu_commands(folder),
        )
    _print(gpu_table(results, versions), gpu_json(results, versions), config)
    return int(any(result.failure is not None for result in results))


def _write_gpu(
    results: list[GpuResult], versions: dict[str, str], config: BenchConfig
) -> None:
    """The page so far, so that what was measured outlives the run."""
    if config.markdown is None:
        return
    config.markdown.parent.mkdir(parents=True, exist_ok=True)
    date = datetime.date.today().isoformat()
    page = gpu_markdown(results, versions, command_line(config), date)
    config.markdown.write_text(page)


def _publish(results: Results, config: BenchConfig) -> None:
    if config.markdown is not None:
        date = datetime.date.today().isoformat()
        config.markdown.parent.mkdir(parents=True, exist_ok=True)
        config.markdown.write_text(as_markdown(results, command_line(config), date))
    _print(as_renderable(results), as_json(results), config)


def _print(table: RenderableType, found: Any, config: BenchConfig) -> None:
    if config.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    console = Console()
    # A pipe has no width of its own.
    Console(width=None if console.is_terminal else WIDTH).print(table)
