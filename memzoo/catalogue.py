"""`memzoo list`: show the layers and presets."""

import dataclasses
import functools
import json
from contextlib import suppress
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from rich.console import Console
from rich.table import Table

from memzoo.errors import InputError

from .configs.presets import PRESETS
from .configs.serialise import type_name
from .models import LAYERS
from .models.flops import count_flops
from .models.interface import MemoryLayer
from .models.layer_config import LayerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListOptions:
    """Show the layers and presets."""

    json: bool = False
    """Print JSON."""
    map: bool = False
    """Show the layers as test-time regression: weights, regressor and solver."""


def catalogue() -> list[dict[str, object]]:
    """Return a dictionary per layer.

    The keys are name, family, paper, inspired, state, presets, refuses and unless.
    `inspired` is True if the layer only follows ideas of its paper, most often because
    the rest is not public. `unless` is the option that lets a layer accept prefixes
    which it otherwise refuses, or None.
    """
    presets: dict[str, list[str]] = {name: [] for name in LAYERS}
    for preset, make in PRESETS.items():
        groups = make().model.pattern
        for name in {type_name(layer) for group in groups for layer in group.layers}:
            presets.setdefault(name, []).append(preset)
    return [
        {
            "name": name,
            "family": kind.family,
            "paper": kind.paper(),
            "inspired": "inspired by" in (kind.__doc__ or "").split("\n\n")[0],
            "state": layer.state_growth,
            "presets": presets[name],
            "refuses": [] if layer.accepts_prefix else ["prefix"],
            "unless": None if layer.accepts_prefix else _prefix_option(kind()),
        }
        for name, kind in LAYERS.items()
        for layer in [_abstract(kind())]
    ]


def regression_map() -> list[dict[str, object]]:
    """Return a dictionary per layer that test-time regression describes.

    The keys are name, weights, regressor, solver, state_bytes, flops and paper. State
    and FLOPs are those of one sequence, after 1,024 tokens, at width 512.
    """
    return [
        {
            "name": name,
            **kind.regression._asdict(),
            **_cost(kind()),
            "paper": kind.paper(),
        }
        for name, kind in LAYERS.items()
        if kind.regression is not None
    ]


@functools.cache
def _cost(config: LayerConfig) -> dict[str, int]:
    """Return the bytes of a state, and the FLOPs of one token."""
    graphdef, arrays = nnx.split(_abstract(config, 512))

    def init(arrays: Any) -> Any:
        return nnx.merge(graphdef, arrays).init_state(1, 1024)

    def step(arrays: Any, x: jax.Array, state: Any) -> jax.Array:
        return nnx.merge(graphdef, arrays).step(x, state)[0]

    state = jax.eval_shape(init, arrays)
    x = jax.ShapeDtypeStruct((1, 512), jnp.float32)
    sizes = [a.size * a.dtype.itemsize for a in jax.tree.leaves(state)]
    return {"state_bytes": sum(sizes), "flops": count_flops(step, arrays, x, state)}


@functools.cache
def _abstract(config: LayerConfig, width: int = 64) -> MemoryLayer:
    return nnx.eval_shape(
        lambda: config.build(width, nnx.Rngs(0), layer_index=0, depth=2)
    )


def _prefix_option(config: Any) -> str | None:
    """Return the field, its own or its memory's, that makes a layer accept a prefix."""
    with_prefix = {}
    if hasattr(config, "prefix"):
        with_prefix["prefix"] = {"prefix": True}
    memory: Any = getattr(config, "memory", None)
    if hasattr(memory, "prefix"):
        inner = dataclasses.replace(memory, prefix=True)
        with_prefix["memory.prefix"] = {"memory": inner}
    for option, fields in with_prefix.items():
        # A layer that cannot hold such a memory raises.
        with suppress(InputError):
            if _abstract(dataclasses.replace(config, **fields)).accepts_prefix:
                return option
    return None


def show_catalogue(options: ListOptions) -> int:
    """Print the layers and presets as a table or as JSON."""
    if options.map:
        return _show_map(options)
    layers = catalogue()
    if options.json:
        print(json.dumps(layers, indent=1))
        return 0
    console = Console()
    table = Table(title="layers", title_justify="left", box=None, pad_edge=False)
    for column in ("name", "family", "arXiv", "state", "refuses"):
        table.add_column(column, no_wrap=True)
    for layer in layers:
        refuses = ", ".join(map(str, layer["refuses"]))  # type: ignore[arg-type]
        if layer["unless"]:
            refuses += "*"
        table.add_row(
            str(layer["name"]),
            str(layer["family"]),
            str(layer["paper"]).removeprefix("arXiv:"),
            str(layer["state"]),
            refuses,
        )
    console.print(table)
    unless = {str(e["name"]): e["unless"] for e in layers if e["unless"]}
    console.print(
        "* accepts a prefix if an option is set:",
        ", ".join(f"{name} by {option}" for name, option in unless.items()),
    )
    inspired = ", ".join(str(e["name"]) for e in layers if e["inspired"])
    console.print(f"inspired by their papers, not all of them: {inspired}")
    console.print()
    table = Table(title="presets", title_justify="left", box=None, pad_edge=False)
    table.add_column("command", no_wrap=True)
    table.add_column("result")
    for name, make in PRESETS.items():
        said = " ".join((make.__doc__ or "").split("\n\n")[0].split())
        command = f"memzoo train {name}"
        table.add_row(command, said.removeprefix(command).lstrip(": "))
    console.print(table)
    return 0


_WIDTH_OF_MAP = 104
"""Columns of a terminal that shows the map with the papers."""


def _show_map(options: ListOptions) -> int:
    layers = regression_map()
    if options.json:
        print(json.dumps(layers, indent=1))
        return 0
    table = Table(
        title="layers as test-time regression", title_justify="left", box=None,
        pad_edge=False,
    )  # fmt: skip
    for column in ("name", "weights", "regressor", "solver"):
        table.add_column(column, no_wrap=True)
    table.add_column("state KiB", justify="right")
    table.add_column("MFLOP", justify="right")
    console = Console()
    papers = console.width >= _WIDTH_OF_MAP
    if papers:
        table.add_column("paper", no_wrap=True)
    for layer in layers:
        point = [str(layer[k]) for k in ("name", "weights", "regressor", "solver")]
        kib, mflop = int(layer["state_bytes"]) / 1024, int(layer["flops"]) / 1e6  # type: ignore[call-overload]
        row = [*point, f"{kib:,.0f}", f"{mflop:.1f}"]
        table.add_row(*row, *([str(layer["paper"])] if papers else []))
    console.print(table)
    console.print(
        "state and cost of one token: one layer, width 512, after 1,024 tokens"
    )
    return 0
