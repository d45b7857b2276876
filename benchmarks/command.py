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

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from memzoo.errors import InputError

from ..evals.figures import duration_text
from .environments import prepare, require
from .report import WIDTH, as_json, as_markdown, as_text
from .results import Results
from .rows import peers_of, select_growth, select_rows
from .runner import Form, Plan, count_steps, run_plan, side_commands

# Seconds. A longer measurement is a typing error, and infinity would never end.
_LONGEST_PASS = 3600


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """Compare speed and memory of our operations, layers and models with peers.

    A peer is another library or another layer. Ratios above 1 mean that ours is faster.
    For quick numbers while tuning:
    `memzoo bench --rows delta:2048 --rounds 5 --wall-rounds 0 --no-growth`.
    """

    rows: str | None = None
    """What to measure, comma separated. None: all operations. An operation
    (gated_delta, delta, scalar_decay, attention, titans_lmm, titans, ttt, titans_mlp,
    mixture; on a GPU also retention), one length of it (delta:2048), or one
    update_every or number of memories (titans_lmm:1024:16, mixture:2048:4). A training
    step of a whole model, a prompt that it reads, or tokens that it generates: step,
    read, generate (step:mamba2, step:mamba2:512). A layer against attention, with
    fields after slashes: layer, layer:retnet/num_heads=8. A long prompt: prompt, block,
    decode (prompt:32768). @ chooses one peer: delta@fla. @jla is jax-linear-attention,
    whose environment needs Python 3.12."""
    gpu: bool = False
    """Measure wall time on a GPU instead, against GPU kernels: operations (bfloat16)
    and long prompts."""
    rounds: int = 7
    """Rounds on one core with one thread; for whole models, on all cores; on a GPU, on
    the GPU."""
    wall_rounds: int = 3
    """Rounds of operations on all cores of a CPU, for the wall time; 0 skips them."""
    growth: bool = True
    """Also fit how time and memory of the recurrent operations grow with length. CPU
    only."""
    minimum_seconds: float = 0.3
    """Repeat a pass until the measurement lasts this long."""
    chunk_size: int | None = None
    """Tokens in a chunk of our operations (for attention, in a block). None: the
    operations choose. cuDNN's attention has none."""
    form: Form = "auto"
    """Form of our recurrent operations."""
    seed: int = 0
    """Seed of the inputs."""
    prepare: bool = False
    """Make the peers' environments (downloads PyTorch) instead of measuring."""
    peers: Path = Path(".peers")
    """Folder of the peers' environments."""
    python: Path | None = None
    """Interpreter for the peers' environments. None: this one."""
    json: bool = False
    """Print all measurements as JSON."""
    markdown: Path | None = None
    """Also write the page of the run to this file while rows are measured."""

    def __post_init__(self) -> None:
        for name in ("wall_rounds", "growth") if self.gpu else ():
            if getattr(self, name) != getattr(type(self), name):
                raise InputError(f"{name} is only for a CPU; drop it, or drop gpu")
        if self.rounds < 1:
            raise InputError(f"rounds is {self.rounds}; measure at least 1 round")
        if self.wall_rounds < 0:
            raise InputError(
                f"wall_rounds is {self.wall_rounds}; give 0 to skip the wall time"
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
                f"chunk_size is {self.chunk_size}; give at least 1, or drop it"
            )


def run(config: BenchConfig) -> int:
    """Make the peers' environments, or measure and print; return the exit code.

    The code is 1 if a row failed.

    Raises:
        MemzooError: an unknown row, a peer without an environment, no GPU.
    """
    console = Console(stderr=True)
    folder = config.peers.absolute()
    rows = select_rows(config.rows, "gpu" if config.gpu else "cpu")
    if config.prepare:
        _prepare_peers(config, folder, console)
        return 0
    _check_read(config, {row.case.kind for row in rows})
    require(folder, peers_of(rows))
    plan = Plan(
        rows=rows,
        growth=select_growth(rows) if config.growth else (),
        rounds=config.rounds,
        wall_rounds=config.wall_rounds,
        minimum_seconds=config.minimum_seconds,
        seed=config.seed,
        chunk_size=config.chunk_size,
        form=config.form,
    )
    with _progress(console, count_steps(plan)) as advance:
        results = run_plan(
            plan,
            side_commands(folder),
            advance,
            lambda found: _write_page(found, config),
        )
    _print(results, config)
    return int(any(result.failure is not None for result in results.rows))


def _check_read(config: BenchConfig, kinds: set[str]) -> None:
    """Refuse options that none of the chosen rows uses."""
    if "operation" in kinds:
        return
    for name in ("chunk_size", "form", "wall_rounds", "growth"):
        if getattr(config, name) != getattr(type(config), name):
            raise InputError(
                f"{name} is {getattr(config, name)}, which only operations use, and "
                f"rows names none; drop it"
            )


def _prepare_peers(config: BenchConfig, folder: Path, console: Console) -> None:
    rows = select_rows(config.rows, "gpu" if config.gpu else "cpu")
    with console.status("preparing") as status:

        def announce(line: str) -> None:
            status.update(line)
            console.print(line, highlight=False)

        python = str(config.python or sys.executable)
        prepare(folder, peers_of(rows), python, announce)


def command_line(config: BenchConfig) -> str:
    """Return the command for `config`, without options about the output."""
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
    """Show a bar on a terminal; otherwise print one line per step, for a log."""
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


def _write_page(results: Results, config: BenchConfig) -> None:
    """Write the page so far, so that an interrupted run keeps its measurements."""
    if config.markdown is None:
        return
    config.markdown.parent.mkdir(parents=True, exist_ok=True)
    date = datetime.date.today().isoformat()
    config.markdown.write_text(as_markdown(results, command_line(config), date))


def _print(results: Results, config: BenchConfig) -> None:
    if config.json:
        sys.stdout.write(json.dumps(as_json(results), indent=2) + "\n")
        return
    console = Console(width=WIDTH)
    # Compiler messages may contain brackets, which are not markup.
    console.print(as_text(results), markup=False, highlight=False)
