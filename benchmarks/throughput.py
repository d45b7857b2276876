"""Tokens a second of whole layers, in one interleaved run."""

import math
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from memzoo.errors import InputError, MemzooError

from ..configs.variants import layer_from_text
from ..models import LAYERS
from .cases import listed_names
from .contestant import RETURN_MEMORY, Contestant, keep_compiled, usable_cores
from .measures import Ratio, paired_ratio

# Every ratio is to this layer, the one that all others are an alternative to.
BASELINE = "attention"


@dataclass(frozen=True, kw_only=True)
class LayerShape:
    """What every layer is given; float32, forward and backward."""

    time: int = 2048
    width: int = 256
    batch_size: int = 1


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """One layer on one core with one thread.

    Attributes:
        cpu_seconds: of one pass, median over the rounds.
        ratio: how many times faster than attention.
        peak_bytes: what one pass adds to the resident memory.
    """

    layer: str
    shape: LayerShape
    cpu_seconds: float
    ratio: Ratio
    peak_bytes: int | None

    @property
    def tokens_per_second(self) -> float:
        return self.shape.batch_size * self.shape.time / self.cpu_seconds


def select_layers(names: str) -> tuple[str, ...]:
    """Registered layers, comma separated, or `all`; attention always comes first.

    Fields that are not by default follow after strokes:
    `mixture_of_memories/num_memories=8/form=dense`.

    Raises:
        MemzooError: no such layer is registered, or has such a field.
    """
    chosen = list(LAYERS) if names == "all" else listed_names("layers", names)
    for name in chosen:
        try:
            layer_from_text(name)
        except InputError as error:
            raise MemzooError(str(error)) from error
    return tuple(dict.fromkeys([BASELINE, *chosen]))


def layers_command() -> list[str]:
    """Runs the layers' contestant in this interpreter."""
    return [sys.executable, "-m", "memzoo.benchmarks.worker_layers"]


def measure_layers(
    layers: tuple[str, ...],
    shape: LayerShape,
    *,
    rounds: int,
    minimum_seconds: float,
    advance: Callable[[str], None],
    command: list[str],
) -> tuple[Throughput, ...]:
    """Time every layer once a round, in turn forwards and backwards.

    Args:
        layers: the first is the one that the others are compared with.
        advance: told what begins; called `len(layers) * (rounds + 2)` times.
        command: runs the contestant.
    """
    seconds: dict[str, list[float]] = {name: [] for name in layers}
    repeats: dict[str, int] = {}
    peaks: dict[str, int | None] = {}
    core = frozenset([max(usable_cores())])
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        compiled = keep_compiled(folder)
        np.savez(folder / "inputs.npz", **_inputs(shape))
        with Contestant(
            "memzoo", command, core, RETURN_MEMORY | compiled
        ) as contestant:
            for name in layers:
                advance(f"preparing {name}")
                _prepare(contestant, name, folder)
                peaks[name] = contestant.ask("memory", name=name)["peak_bytes"]
        with Contestant("memzoo", command, core, compiled) as contestant:
            for name in layers:
                advance(f"preparing {name}")
                _prepare(contestant, name, folder)
                once = contestant.ask("run", name=name, repeats=1)["wall_seconds"]
                repeats[name] = max(1, math.ceil(minimum_seconds / max(once, 1e-4)))
            for index in range(rounds):
                for name in layers if index % 2 == 0 else reversed(layers):
                    advance(f"round {index + 1}/{rounds}: {name}")
                    answer = contestant.ask("run", name=name, repeats=repeats[name])
                    seconds[name].append(answer["cpu_seconds"])
    return tuple(
        Throughput(
            layer=name,
            shape=shape,
            cpu_seconds=statistics.median(seconds[name]),
            ratio=paired_ratio(seconds[layers[0]], seconds[name]),
            peak_bytes=peaks[name],
        )
        for name in layers
    )


def throughput_table(results: tuple[Throughput, ...]) -> Table:
    """The layers as a table for a terminal."""
    shape = results[0].shape
    table = Table(
        title=f"Layers, forward and backward, float32, B {shape.batch_size}, "
        f"T {shape.time}, width {shape.width}, one core",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
    )
    table.add_column("layer", overflow="fold")
    for name in ("CPU ms", "tokens/s", f"x {BASELINE}", "min..max", "peak MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        peak = result.peak_bytes
        table.add_row(
            result.layer,
            f"{1e3 * result.cpu_seconds:.1f}",
            f"{result.tokens_per_second:,.0f}",
            f"{result.ratio.median:.2f}",
            f"{result.ratio.low:.2f}..{result.ratio.high:.2f}",
            "-" if peak is None else f"{peak / 1e6:.0f}",
        )
    return table


def throughput_json(results: tuple[Throughput, ...]) -> list[dict[str, Any]]:
    """The layers as JSON; seconds and bytes."""
    return [
        {
            "layer": result.layer,
            **vars(result.shape),
            "cpu_seconds": result.cpu_seconds,
            "tokens_per_second": result.tokens_per_second,
            "ratio_to_attention": result.ratio._asdict(),
            "peak_bytes": result.peak_bytes,
        }
        for result in results
    ]


def _prepare(contestant: Contestant, name: str, folder: Path) -> None:
    contestant.ask(
        "prepare",
        name=name,
        operation=name,
        inputs=str(folder / "inputs.npz"),
        outputs=str(folder / f"{name.replace('/', '-')}.npz"),
        options={},
    )


def _inputs(shape: LayerShape) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    size = (shape.batch_size, shape.time, shape.width)
    return {
        name: generator.standard_normal(size, np.float32) for name in ("x", "cotangent")
    }
