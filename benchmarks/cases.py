"""Description of what to measure: cases, and rows that compare a case with a peer."""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

Kind = Literal[
    "operation", "layer", "prompt", "block", "decode", "step", "read", "generate"
]
"""Kind of a case.

operation: an operation; layer: a layer; prompt, block: a layer's operation, or a block
of it, that reads a long prompt; decode: a block that generates one token; step: a
training step of a whole model; read, generate: a whole model that reads a prompt, or
generates after it."""
Passes = Literal["forward", "both"]
Device = Literal["cpu", "gpu"]
Dtype = Literal["float32", "bfloat16"]
Clock = Literal["cpu", "wall"]
Peer = Literal["transformers", "fla", "torch", "titans", "jla"]
Side = Literal["memzoo", Peer]
Preferred = Literal["none", "one", "two"]

OURS: Side = "memzoo"

# Kinds that run a whole language model, on all cores, as users do.
MODELS: frozenset[Kind] = frozenset(["step", "read", "generate"])


@dataclass(frozen=True, kw_only=True)
class Case:
    """Computation to run, at one shape, on one device.

    Attributes:
        operation: name of the operation, layer or model.
        update_every: tokens whose gradients a neural memory takes at the same weights;
            None: not a neural memory.
        num_memories: memories of a mixture; each token chooses two. None: one
            memory.
        preferred: how many memories are the same for all tokens; the others are random.
        form: form of our operation; None: the form from the command line.
    """

    kind: Kind = "operation"
    operation: str
    time: int
    batch_size: int = 1
    num_heads: int = 4
    head_size: int = 64
    update_every: int | None = None
    num_memories: int | None = None
    preferred: Preferred = "none"
    form: str | None = None
    passes: Passes = "both"
    device: Device = "cpu"
    dtype: Dtype = "float32"

    @property
    def name(self) -> str:
        """Words joined by colons; `--rows` matches the first ones."""
        time = str(self.time)
        match self.kind:
            case "operation":
                words = [self.operation, time, *self._numbers]
            case "layer":
                words = [self.kind, self.operation]
            case "prompt" | "block" | "decode":
                words = [self.kind, time, self.operation]
            case _:
                words = [self.kind, self.operation, time]
        gpu = self.device == "gpu" and self.kind == "operation"
        return ":".join([*words, *([self.passes] if gpu else [])])

    @property
    def label(self) -> str:
        """Case in words."""
        words = self.operation.replace("_", " ")
        if self.kind == "layer":
            words = self.operation
        elif self.kind != "operation":
            words = f"{words} {self.kind}"
        return "/".join([words, *self._numbers])

    @property
    def shape(self) -> str:
        """Sizes in words."""
        sizes = [f"T {self.time}", f"B {self.batch_size}"]
        if self.kind == "operation":
            sizes += [f"H {self.num_heads}", f"D {self.head_size}"]
        else:
            sizes += [f"width {self.width}"]
        return ", ".join([*sizes, self.dtype])

    @property
    def width(self) -> int:
        return self.num_heads * self.head_size

    @property
    def tokens(self) -> int:
        """Number of tokens that one pass reads or generates."""
        each = {"decode": 1, "generate": GENERATED}.get(self.kind, self.time)
        return self.batch_size * each

    @property
    def clock(self) -> Clock:
        """Clock of the ratio: processor time on one core, or wall time.

        Wall time is needed on a GPU, whose work is not processor time, and for whole
        models, which run on all cores.
        """
        by_the_clock = self.device == "gpu" or self.kind in MODELS
        return "wall" if by_the_clock else "cpu"

    @property
    def _numbers(self) -> list[str]:
        numbers = [n for n in (self.update_every, self.num_memories) if n is not None]
        preferred = [] if self.preferred == "none" else [self.preferred]
        return [*map(str, numbers), *preferred]


GENERATED = 64
"""Tokens that a whole model generates in one pass."""


class Turn(NamedTuple):
    """Measurement of one case on one side."""

    side: Side
    case: Case


@dataclass(frozen=True, kw_only=True)
class Row:
    """Comparison of one of our cases with a peer.

    Attributes:
        peer: the other side.
        other: the case that the peer runs; None: the same case.
        peer_function: name of the peer's function.
        target: goal for how many times faster ours is; None: no goal.
        aim: a more ambitious goal.
        differs: how the peer's computation differs; None: it is the same, so results
            are compared.
    """

    case: Case
    peer: Side
    other: Case | None = None
    peer_function: str
    target: float | None = None
    aim: float | None = None
    differs: str | None = None

    @property
    def ours(self) -> Turn:
        return Turn(OURS, self.case)

    @property
    def theirs(self) -> Turn:
        return Turn(self.peer, self.other or self.case)

    @property
    def peer_name(self) -> str:
        """Name of the peer; if it is memzoo too, what distinguishes its case."""
        if self.peer != OURS or self.other is None:
            return self.peer
        return self.other.form or self.other.operation

    @property
    def name(self) -> str:
        return f"{self.case.name} against {self.peer_name}"


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Lengths at which to fit the growth of one operation's time and memory."""

    operation: str
    times: tuple[int, ...] = (1024, 2048, 4096, 8192)
    target: float = 1.1
    update_every: int | None = None

    @property
    def cases(self) -> tuple[Case, ...]:
        first = Case(operation=self.operation, time=0, update_every=self.update_every)
        return tuple(replace(first, time=time) for time in self.times)

    @property
    def turns(self) -> tuple[Turn, ...]:
        return tuple(Turn(OURS, case) for case in self.cases)
