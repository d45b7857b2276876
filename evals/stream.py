"""Streaming of one document of any length, in pieces and in constant memory."""

import functools
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float32, Int32, Integer

from memzoo.errors import InputError, MemzooError, NonFiniteError

from ..data.task import MOST_TOKENS
from ..models.interface import SequenceInfo
from ..models.language_model import LanguageModel
from ..models.neural_memory_layer import reporting_surprise
from .recall import Row
from .score import score_targets

# Compare resident memory from this many tokens on; the first pieces compile and
# allocate.
SETTLED = 10_000


class Carried(NamedTuple):
    """Document so far, between two pieces.

    Attributes:
        state: state of the whole model, after all tokens but the last.
        token: the last token, which is read with the next piece.
        read: number of tokens read.
        capacity: number of tokens that a growing state was allocated for.
    """

    state: Any
    token: int
    read: int
    capacity: int


def begin(model: LanguageModel, first: int, capacity: int) -> Carried:
    """Return a new document that begins with the token `first`."""
    graphdef, arrays = nnx.split(model)

    @jax.jit
    def new(arrays: Any) -> Any:
        return nnx.merge(graphdef, arrays).init_state(1, allocated(model, capacity))

    return Carried(new(arrays), first, 0, capacity)


def allocated(model: LanguageModel, capacity: int) -> int:
    """Return the `max_length` of a state; a constant-size state takes the maximum for
    free."""
    return capacity if model.stack.state_growth == "linear" else MOST_TOKENS


def check_room(model: LanguageModel, carried: Carried, tokens: int) -> None:
    """Raise MemzooError if this many more tokens do not fit."""
    longest = carried.read + tokens
    if longest > MOST_TOKENS:
        raise MemzooError(
            f"the document has {longest:,} tokens; read {MOST_TOKENS:,} or less (on "
            "the command line: --tokens)"
        )
    try:
        model.check_capacity(carried.state, tokens)
    except InputError as error:
        raise MemzooError(
            f"the state of this model grows with the document; {longest} tokens do not "
            f"fit, it has room for {carried.capacity}; give --capacity {longest} (in "
            f"Python: max_length={longest}), fewer tokens, or a model whose layers "
            "have a constant state"
        ) from error


class Curve:
    """Means of a number over windows of a document, in bounded memory.

    Windows start at one token. When there are too many, neighbours are merged.
    """

    def __init__(self, most: int = 256) -> None:
        self.window = 1
        self._sums = np.zeros(most)
        self._count = 0

    def add(self, values: Float32[np.ndarray, "n"]) -> None:
        """Add the next values of the document."""
        most = len(self._sums)
        end = self._count + len(values)
        while end > most * self.window:
            joined = self._sums.reshape(-1, 2).sum(axis=1)
            self._sums = np.concatenate([joined, np.zeros(most - len(joined))])
            self.window *= 2
        place = np.arange(self._count, end) // self.window
        np.add.at(self._sums, place, values.astype(np.float64))
        self._count = end

    @property
    def means(self) -> list[float]:
        """Return one mean per window; the last window may be shorter."""
        first = np.arange(0, self._count, self.window)
        sizes = np.minimum(self._count - first, self.window)
        return (self._sums[: len(first)] / sizes).tolist()


@dataclass
class Tally:
    """Costs of a document's targets, grouped by length of the context.

    Contexts are grouped as in `perplexity.contexts`: 1 to 8, 9 to 16, 17 to 32, ...
    """

    counts: np.ndarray = field(default_factory=lambda: np.zeros(64, np.int64))
    sums: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, first: int, values: dict[str, np.ndarray]) -> None:
        """Add the values of consecutive tokens; the first one has context `first`."""
        length = len(next(iter(values.values())))
        context = np.arange(first, first + length)
        # frexp's exponent of n is exactly its number of binary digits.
        group = np.maximum(np.frexp(context - 1)[1] - 3, 0)
        self.counts += np.bincount(group, minlength=64)
        for name, each in values.items():
            total = self.sums.setdefault(name, np.zeros(64))
            total += np.bincount(group, each.astype(np.float64), minlength=64)

    def rows(self, setting: dict[str, Any], read: int) -> list[Row]:
        """Return means over all targets and by context, in the format of `perplexity`.

        Args:
            setting: fields of every row's setting.
            read: longest context.
        """
        rows = self._rows(setting, slice(None))
        for group in np.flatnonzero(self.counts).tolist():
            first = 2 ** (group + 2) + 1 if group else 1
            ends = {"context_from": first, "context_to": min(2 ** (group + 3), read)}
            rows += self._rows(setting | ends, slice(group, group + 1))
        return rows

    def _rows(self, setting: dict[str, Any], chosen: slice) -> list[Row]:
        count = int(self.counts[chosen].sum())
        return [
            {
                "setting": setting,
                "metric": name,
                "value": float(total[chosen].sum()) / count,
                "count": count,
            }
            for name, total in self.sums.items()
        ]


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """Result of reading a document, or a part of it.

    Attributes:
        carried: where the next part continues.
        tally: costs of the targets.
        length: number of targets: the tokens of this part.
        surprise: surprise of its tokens; None: no layer reports it.
        seconds: time of all pieces.
        first_seconds: time of the first piece, which compiles.
        first_length: tokens of the first piece.
        resident: bytes of resident memory by tokens of this part; empty if the system
            does not report it.
    """

    carried: Carried
    tally: Tally
    length: int
    surprise: Curve | None
    seconds: float
    first_seconds: float
    first_length: int
    resident: dict[int, int]

    @property
    def tokens_per_second(self) -> float:
        """Return the speed, without the first piece if there are more."""
        rest = self.length - self.first_length
        if not rest:
            return self.length / self.seconds
        return rest / (self.seconds - self.first_seconds)


def stream(
    model: LanguageModel,
    parts: Iterable[Integer[np.ndarray, "_"]],
    carried: Carried,
    *,
    piece: int,
    surprise: bool = False,
    total: int | None = None,
    report: Callable[[int], None] | None = None,
) -> Streamed:
    """Read a document and predict each of its tokens from all tokens before.

    One program reads every piece; the last piece is padded.

    Args:
        model: the model; it is not changed.
        parts: the tokens that follow `carried.token`, in arrays of any size.
        carried: the document so far.
        piece: tokens read at a time.
        surprise: whether to ask neural memories for their surprise.
        total: number of tokens in all parts, if known.
        report: called after every piece with the number of tokens so far.

    Raises:
        MemzooError: there are no tokens, or they do not fit into the state.
        NonFiniteError: a target's loss is not finite.
    """
    if total is not None:
        check_room(model, carried, total)
    tally, curve = Tally(), Curve()
    length, first = 0, (0.0, 0)
    resident: dict[int, int] = {}
    start = time.perf_counter()
    for values, after in read_pieces(
        model, parts, carried, piece=piece, surprise=surprise, check=total is None
    ):
        count = after.read - carried.read
        if "surprise" in values:
            curve.add(values["surprise"])
        tally.add(carried.read + 1, values)
        carried = after
        length += count
        _note_memory(resident, length)
        if first[1] == 0:
            first = (time.perf_counter() - start, count)
        if report is not None:
            report(length)
    if length == 0:
        raise MemzooError("the document is empty; give one with at least one byte")
    _note_memory(resident, length, always=True)
    return Streamed(
        carried=carried,
        tally=tally,
        length=length,
        surprise=curve if curve.means else None,
        seconds=time.perf_counter() - start,
        first_seconds=first[0],
        first_length=first[1],
        resident=resident,
    )


def read_pieces(
    model: LanguageModel,
    parts: Iterable[Integer[np.ndarray, "_"]],
    carried: Carried,
    *,
    piece: int,
    surprise: bool,
    check: bool = True,
) -> Iterator[tuple[dict[str, np.ndarray], Carried]]:
    """Read a document in pieces; yield each piece's values and the document so far.

    Args:
        check: whether to refuse a piece that does not fit into the state.

    Raises:
        MemzooError: a piece does not fit into the state.
        NonFiniteError: a target's loss is not finite.
    """
    reader = reporting_surprise(model) if surprise else model
    graphdef, arrays = nnx.split(reader)
    for tokens in _pieces(parts, piece):
        count = len(tokens)
        if check:
            check_room(model, carried, count)
        inputs = _padded(np.append(carried.token, tokens[:-1]), piece)
        valid = np.arange(piece)[None] < count
        found = _read(graphdef, arrays, inputs, _padded(tokens, piece), valid, carried)
        values = _values(jax.device_get(found._replace(state=None)), count, carried)
        carried = carried._replace(
            state=found.state, token=int(tokens[-1]), read=carried.read + count
        )
        yield values, carried


def _values(numbers: "_Read", count: int, before: Carried) -> dict[str, Any]:
    """Return the values of every token of a piece.

    Raises:
        NonFiniteError: a target's loss is not finite.
    """
    nats = numbers.nats[0, :count]
    if not np.all(np.isfinite(nats)):
        at = before.read + int(np.argmin(np.isfinite(nats))) + 1
        raise NonFiniteError(
            f"the loss is not finite from token {at} of the document on; lower the "
            "inner learning rate as `memzoo describe` advises"
        )
    values = {
        "bits_per_byte": nats / math.log(2),
        "accuracy": numbers.correct[0, :count],
    }
    if numbers.surprise is not None:
        values["surprise"] = numbers.surprise[0, :count]
    return values


class _Read(NamedTuple):
    """Results of reading a piece."""

    nats: Float32[Array, "1 t"]
    correct: Bool[Array, "1 t"]
    surprise: Float32[Array, "1 t"] | None
    state: Any


def _read(
    graphdef: Any,
    arrays: Any,
    tokens: Int32[np.ndarray, "1 t"],
    targets: Int32[np.ndarray, "1 t"],
    valid: Bool[np.ndarray, "1 t"],
    carried: Carried,
) -> _Read:
    return _read_piece(graphdef, arrays, tokens, targets, valid, carried.state)


@functools.partial(jax.jit, static_argnums=0)
def _read_piece(
    graphdef: Any, arrays: Any, tokens: Any, targets: Any, valid: Any, state: Any
) -> _Read:
    model = nnx.merge(graphdef, arrays)
    hidden, state = model.hidden(tokens, state, SequenceInfo(valid=valid))
    nats, correct = score_targets(model, hidden, targets)
    _, metrics = model.stack.pop_said()
    said = [a for path, a in metrics.items() if path.endswith("/surprise")]
    surprise = None
    if said:
        surprise = jnp.mean(jnp.concatenate(said), axis=0).astype(jnp.float32)
    return _Read(nats, correct, surprise, state)


def _pieces(
    parts: Iterable[Integer[np.ndarray, "_"]], piece: int
) -> Iterator[Int32[np.ndarray, "_"]]:
    """Yield the same tokens in arrays of one size; the last may be shorter."""
    held: list[np.ndarray] = []
    for part in itertools.chain(parts, [None]):
        size = sum(map(len, held))
        if part is not None:
            held.append(part)
            size += len(part)
        if not size or (part is not None and size < piece):
            continue
        joined = np.concatenate(held).astype(np.int32)
        whole = len(joined) if part is None else size - size % piece
        for first in range(0, whole, piece):
            yield joined[first : min(first + piece, whole)]
        held = [joined[whole:]]


def _padded(tokens: np.ndarray, piece: int) -> Int32[np.ndarray, "1 t"]:
    filled = np.zeros((1, piece), np.int32)
    filled[0, : len(tokens)] = tokens
    return filled


def _note_memory(
    resident: dict[int, int], length: int, *, always: bool = False
) -> None:
    """Record resident memory at the first piece, once settled, and at every
    doubling.
    """
    last = max(resident, default=0)
    due = length >= 2 * last or last < SETTLED <= length
    if (always or due) and (found := resident_bytes()) is not None:
        resident[length] = found


def resident_bytes() -> int | None:
    """Return this process's resident memory; None if the system does not report it."""
    if not sys.platform.startswith("linux"):
        return None
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return None
