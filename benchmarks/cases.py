"""What is measured, as data: operations, shapes, peers and targets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from memzoo.errors import InputError, MemzooError

from ..configs.comma_list import split_list

Operation = Literal[
    "gated_delta",
    "delta",
    "scalar_decay",
    "attention",
    "titans_lmm",
    "titans",
    "ttt",
    "titans_mlp",
    "mixture",
    "retention",
]
Peer = Literal["transformers", "fla", "torch", "titans", "materialised", "dense"]
Preferred = Literal["none", "one", "two"]
AnyRow = TypeVar("AnyRow")

# Peers that are another form of ours, and run in our own interpreter.
OWN_PEERS: frozenset[Peer] = frozenset(["materialised", "dense"])


@dataclass(frozen=True, kw_only=True)
class Case:
    """One operation at one shape."""

    operation: Operation
    time: int
    batch_size: int = 1
    num_heads: int = 4
    head_size: int = 64
    update_every: int | None = None
    """Tokens between two anchors of a memory that learns; None: it has no anchors."""

    num_memories: int | None = None
    """Memories that tokens are routed to, two each; None: there is one."""
    preferred: Preferred = "none"
    """Memories that every token chooses, if it may choose; others by chance."""

    @property
    def name(self) -> str:
        return ":".join([f"{self.operation}:{self.time}", *self._numbers])

    @property
    def label(self) -> str:
        """The operation in words."""
        return "/".join([self.operation.replace("_", " "), *self._numbers])

    @property
    def _numbers(self) -> list[str]:
        numbers = [n for n in (self.update_every, self.num_memories) if n is not None]
        preferred = [] if self.preferred == "none" else [self.preferred]
        return [*map(str, numbers), *preferred]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A case beside a peer, and how many times faster than it ours is meant to be."""

    case: Case
    peer: Peer
    peer_function: str
    target: float
    aim: float
    differs: str | None = None
    """What the peer computes otherwise; None: the same, and results are compared."""


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Lengths over which time and memory of one of our operations are fitted."""

    operation: Operation
    times: tuple[int, ...] = (1024, 2048, 4096, 8192)
    target: float = 1.1
    update_every: int | None = None

    @property
    def cases(self) -> tuple[Case, ...]:
        return tuple(
            Case(operation=self.operation, time=time, update_every=self.update_every)
            for time in self.times
        )


def _rows(
    operation: Operation,
    peer: Peer,
    peer_function: str,
    goals: Mapping[int, tuple[float, float]],
    *,
    update_every: int | None = None,
    num_memories: int | None = None,
    preferred: Preferred = "none",
    differs: str | None = None,
) -> tuple[Row, ...]:
    return tuple(
        Row(
            case=Case(
                operation=operation,
                time=time,
                update_every=update_every,
                num_memories=num_memories,
                preferred=preferred,
            ),
            peer=peer,
            peer_function=peer_function,
            target=target,
            aim=aim,
            differs=differs,
        )
        for time, (target, aim) in goals.items()
    )


NEURAL_MEMORY = "NeuralMemory, MLP of depth 2 and expansion 4, batch_size 128"
COARSE = (
    "one momentum and one decay a chunk, reads that lag a chunk, gradients at the "
    "weights before each 128 tokens"
)

DENSE = "every memory reads every token"
_PADDED = (
    "rows gathered by memory, padded to the longest, around "
    "qwen3_next.torch_chunk_gated_delta_rule"
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
    *_rows(
        "titans_lmm",
        "titans",
        NEURAL_MEMORY,
        {1024: (2.0, 3.0), 4096: (2.0, 3.0)},
        update_every=64,
        differs=COARSE,
    ),
    *_rows(
        "titans_lmm",
        "titans",
        NEURAL_MEMORY,
        {1024: (3.2, 4.5), 4096: (3.2, 4.5)},
        update_every=16,
        differs=COARSE,
    ),
    *_rows(
        "titans",
        "fla",
        "ops.titans.naive.chunk_titans_linear_ref, with combine_params (its faster)",
        {2048: (5.0, 8.0)},
        update_every=16,
        differs="its gradient of the layer norm is not that of the layer norm",
    ),
    *_rows(
        "ttt",
        "fla",
        "ops.ttt.naive.chunk_ttt_linear_ref",
        {2048: (4.0, 6.0)},
        update_every=16,
        differs="it adds the read before its norm, not the query as the authors' code",
    ),
    *_rows(
        "titans_mlp",
        "materialised",
        "per-token weights by associative scans, jitted",
        {512: (20.0, 25.0)},
        update_every=16,
    ),
    *_rows("mixture", "dense", DENSE, {2048: (1.4, 2.0)}, num_memories=4),
    *_rows("mixture", "transformers", _PADDED, {2048: (1.6, 2.5)}, num_memories=4),
    *_rows("mixture", "dense", DENSE, {2048: (2.5, 4.0)}, num_memories=8),
    *_rows("mixture", "transformers", _PADDED, {2048: (1.6, 2.5)}, num_memories=8),
    *_rows(
        "mixture",
        "transformers",
        _PADDED,
        {2048: (1.6, 2.5)},
        num_memories=8,
        preferred="one",
    ),
    *_rows(
        "mixture",
        "transformers",
        _PADDED,
        {2048: (1.6, 2.5)},
        num_memories=8,
        preferred="two",
    ),
)

GROWTH: tuple[Growth, ...] = (
    Growth(operation="gated_delta"),
    Growth(operation="delta"),
    Growth(operation="scalar_decay"),
    Growth(operation="titans", update_every=16),
    Growth(operation="titans_mlp", update_every=16),
    Growth(operation="titans_lmm", update_every=16),
    Growth(operation="titans_lmm", update_every=64),
    Growth(operation="ttt", update_every=16),
)


def select_rows(names: str | None) -> tuple[Row, ...]:
    """The rows of the operations named, comma separated.

    `operation:time` names one length, `operation:time:update_every` one row of those
    whose memories learn, `mixture:time:num_memories` those of so many memories.

    Raises:
        MemzooError: a name that no row has.
    """
    return select_named(names, {row: row.case.name for row in ROWS})


def listed_names(option: str, names: str) -> list[str]:
    """Return the names of a comma list.

    Raises:
        MemzooError: one of them is empty.
    """
    try:
        return split_list(names)
    except InputError as error:
        raise MemzooError(f"{option} {error}") from error


def select_named(
    names: str | None, rows: Mapping[AnyRow, str], place: str = ""
) -> tuple[AnyRow, ...]:
    """The rows whose names begin with one of the names, comma separated; None: all.

    Args:
        names: words of a name, joined by colons.
        rows: and how they are called.
        place: where they are measured, for the message.

    Raises:
        MemzooError: a name that no row has.
    """
    if names is None:
        return tuple(rows)
    chosen: list[AnyRow] = []
    for name in listed_names("rows", names):
        words = name.split(":")
        found = [row for row, n in rows.items() if n.split(":")[: len(words)] == words]
        if not found:
            known = ", ".join(dict.fromkeys(n.split(":")[0] for n in rows.values()))
            raise MemzooError(
                f"no benchmark row{place} is named {name!r}; choose among "
                f"{known}, or one length of them, such as delta:2048"
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
