"""What is measured, as data: operations, shapes, peers and targets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32

from ..configs.errors import MemzooError

Operation = Literal["gated_delta", "delta", "scalar_decay", "attention"]
Peer = Literal["transformers", "fla", "torch"]

# What the loss is differentiated by, in the layout `b t h k` (`b t h` for gates).
INPUTS: Mapping[Operation, tuple[str, ...]] = {
    "gated_delta": ("q", "k", "v", "write_strength", "log_decay"),
    "delta": ("q", "k", "v", "write_strength"),
    "scalar_decay": ("q", "k", "v", "time_step"),
    "attention": ("q", "k", "v"),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One operation at one shape, float32, forward and backward."""

    operation: Operation
    time: int
    batch_size: int = 1
    num_heads: int = 4
    head_size: int = 64

    @property
    def name(self) -> str:
        return f"{self.operation}:{self.time}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A case beside a peer, and how many times faster than it ours is meant to be."""

    case: Case
    peer: Peer
    peer_function: str
    target: float
    aim: float


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Lengths over which time and memory of one of our operations are fitted."""

    operation: Operation
    times: tuple[int, ...] = (1024, 2048, 4096, 8192)
    target: float = 1.1

    @property
    def cases(self) -> tuple[Case, ...]:
        return tuple(Case(operation=self.operation, time=time) for time in self.times)


def _rows(
    operation: Operation,
    peer: Peer,
    peer_function: str,
    goals: Mapping[int, tuple[float, float]],
) -> tuple[Row, ...]:
    return tuple(
        Row(
            case=Case(operation=operation, time=time),
            peer=peer,
            peer_function=peer_function,
            target=target,
            aim=aim,
        )
        for time, (target, aim) in goals.items()
    )


ROWS: tuple[Row, ...] = (
    *_rows(
        "gated_delta",
        "transformers",
        "qwen3_next.torch_chunk_gated_delta_rule",
        {2048: (2.7, 4.0), 8192: (5.0, 7.0)},
    ),
    *_rows(
        "delta",
        "fla",
        "ops.delta_rule.naive.delta_rule_chunkwise",
        {2048: (3.8, 5.0), 8192: (9.0, 12.0)},
    ),
    *_rows(
        "scalar_decay",
        "transformers",
        "mamba2.mamba2_chunk_scan, chunk_size 64 (its fastest)",
        {2048: (1.8, 2.5)},
    ),
    *_rows(
        "attention",
        "torch",
        "nn.functional.scaled_dot_product_attention",
        {2048: (0.95, 1.1), 8192: (0.95, 1.1)},
    ),
)

GROWTH: tuple[Growth, ...] = (
    Growth(operation="gated_delta"),
    Growth(operation="delta"),
    Growth(operation="scalar_decay"),
)


def select_rows(names: str | None) -> tuple[Row, ...]:
    """The rows of the operations named, comma separated; `operation:time` names one.

    Raises:
        MemzooError: a name that no row has.
    """
    if names is None:
        return ROWS
    chosen: list[Row] = []
    for name in names.split(","):
        operation, _, time = name.strip().partition(":")
        found = [
            row
            for row in ROWS
            if row.case.operation == operation and time in ("", str(row.case.time))
        ]
        if not found:
            known = ", ".join(get_args(Operation))
            raise MemzooError(
                f"no benchmark row is named {name.strip()!r}; choose among {known}, "
                "or one length of them, such as delta:2048"
            )
        chosen += [row for row in found if row not in chosen]
    return tuple(chosen)


def select_growth(rows: tuple[Row, ...]) -> tuple[Growth, ...]:
    """The growth fits of the operations that appear in `rows`."""
    operations = {row.case.operation for row in rows}
    return tuple(growth for growth in GROWTH if growth.operation in operations)


def peers_of(rows: tuple[Row, ...]) -> tuple[Peer, ...]:
    """The peers that the rows need, each once."""
    return tuple(dict[Peer, None]((row.peer, None) for row in rows))


def make_inputs(case: Case, seed: int) -> dict[str, Float32[np.ndarray, "..."]]:
    """The inputs of a case and the `cotangent` that its output is multiplied by.

    Queries and keys of the recurrent operations have length one, log decays are
    log-sigmoids, write strengths sigmoids, time steps soft-pluses: what the layers
    feed to these operations.
    """
    generator = np.random.default_rng([seed, case.time])
    gate_shape = (case.batch_size, case.time, case.num_heads)

    def normal() -> np.ndarray:
        return generator.standard_normal((*gate_shape, case.head_size))

    def unit() -> np.ndarray:
        x = normal()
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    direction = normal if case.operation == "attention" else unit

    def softplus(shift: float) -> np.ndarray:
        return np.logaddexp(0, generator.standard_normal(gate_shape) + shift)

    draw = {
        "q": direction,
        "k": direction,
        "v": normal,
        "write_strength": lambda: np.exp(-softplus(0.0)),
        "log_decay": lambda: -softplus(-2.0),
        "time_step": lambda: softplus(-2.0),
    }
    arrays = {name: draw[name]() for name in INPUTS[case.operation]}
    arrays["cotangent"] = normal()
    return {name: np.ascontiguousarray(x, np.float32) for name, x in arrays.items()}
