"""Multi-query associative recall (Zoology, arXiv 2312.04927)."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Int, Int64, UInt64

from memzoo.errors import InputError

from . import counter
from .batch import Batch
from .task import ENDLESS, SPLITS, Setting, Split

# Numbers of the streams; golden values in the tests depend on them.
_KEYS, _VALUES, _SLOTS, _FILLER, _ORDER, _ASKED = range(6)


@dataclass(frozen=True, kw_only=True)
class MqarConfig:
    """Key-value pairs, then the keys again: the model recalls each key's value.

    With 12 tokens, 2 pairs, length 16 and blank filler (`.` means no target):

        tokens    2  8  4  7  0  0  4  0  0  0  0  0  2  0  0  0
        targets   .  .  .  .  .  .  7  .  .  .  .  .  8  .  .  .

    Keys are drawn without replacement from `[1, vocab_size / 2)`, values without
    replacement from `[vocab_size / 2, vocab_size)`; 0 is the blank. After the block of
    pairs come slots of two tokens. Slot `i = 1, 2, ...` has the weight `i^(power - 1)`.
    The keys draw their slots one by one, with these weights, from the slots that are
    left. A key is the first token of its slot. Its value is the target at that token
    and is never written there. Only the queries have targets.

    Attributes:
        vocab_size: number of tokens; even, and above `length`.
        length: tokens per row; even.
        num_pairs: pairs per row. A tuple mixes settings: row `i` has `num_pairs[i %
            len(num_pairs)]` pairs, and missing targets have weight 0.
        filler: tokens at the other positions after the pairs: token 0, or any token,
            drawn uniformly (which may be a key or a value of the same row).
        power: 0.01 puts most queries soon after the pairs, 1 spreads them evenly. If
            there are as many queries as slots, as with the default 16 pairs in 64
            tokens, every slot holds a query and `power` sets only their order.
        seed: determines every draw. Each split draws from its own streams; in a very
            small vocabulary, two splits may still share a row by chance.
        num_passes: number of times the block of pairs is written.
        num_queries: number of pairs asked for, drawn from those of the row; `None`:
            all. With fewer, a memory that knew the queries could leave out the other
            pairs.
        num_examples: rows of the training split, reshuffled in every epoch; `None`: no
            row repeats. The other splits never repeat a row.

    Differs from Zoology's generator in: the defaults (blank filler, a vocabulary of
    1024 and 16 pairs; Zoology: random filler, 8192 and 8); the filler is seeded too;
    `num_passes` above 1 works; `num_queries`; labels are sparse; rows are shuffled.
    """

    task_name: ClassVar[str] = "mqar"
    data_version: ClassVar[int] = 1
    setting_words: ClassVar[Mapping[str, str]] = {
        "num_pairs": "{} pairs",
        "num_queries": "{} asked",
    }

    vocab_size: int = 1024
    length: int = 64
    num_pairs: int | tuple[int, ...] = 16
    filler: Literal["blank", "random"] = "blank"
    power: float = 0.01
    seed: int = 0
    num_passes: int = 1
    num_queries: int | None = None
    num_examples: int | None = None

    def __post_init__(self) -> None:
        if self.num_queries is not None and self.num_queries < 1:
            raise InputError(
                f"num_queries is {self.num_queries}; give 1 or more, or None to ask "
                "for every pair"
            )
        if self.length < 4 or self.length % 2:
            pairs = max((1, *self.settings))
            least = 2 * (pairs * max(1, self.num_passes) + self.asked(pairs))
            raise InputError(
                f"length is {self.length}; give an even number, {least} or more for "
                "these pairs"
            )
        if self.vocab_size % 2 or self.vocab_size <= self.length:
            raise InputError(
                f"vocab_size is {self.vocab_size}; give an even number above "
                f"the length, {self.length}"
            )
        if self.vocab_size > 2**31:
            raise InputError(f"vocab_size is {self.vocab_size}; give 2^31 or less")
        if self.filler not in ("blank", "random"):
            raise InputError(f"filler is {self.filler!r}; choose 'blank' or 'random'")
        if not 0 < self.power <= 2:
            raise InputError(f"power is {self.power}; give a number in (0, 2]")
        if self.num_passes < 1:
            raise InputError(f"num_passes is {self.num_passes}; give 1 or more")
        if self.num_examples is not None and not 1 <= self.num_examples <= 2**32:
            raise InputError(
                f"num_examples is {self.num_examples}; give a number in [1, 2^32], or "
                "None to repeat no row"
            )
        if not self.settings:
            raise InputError("num_pairs is empty; give at least one number of pairs")
        for pairs in self.settings:
            self._check_pairs(pairs)

    def _check_pairs(self, pairs: int) -> None:
        """Check that the pairs and their queries fit into a row."""
        slots, passes, queries = self.length // 2, self.num_passes, self.num_queries
        said = f"with num_passes {passes}"
        least, most = 1, slots // (passes + 1)
        if queries is not None:
            if queries > most:
                raise InputError(
                    f"num_queries is {queries}; {said} and length {self.length} give "
                    f"a number in [1, {most}], or None to ask for every pair"
                )
            said += f", num_queries {queries}"
            least, most = queries, (slots - queries) // passes
        if not least <= pairs <= most:
            raise InputError(
                f"num_pairs is {pairs}; {said} and length {self.length} give a number "
                f"in [{least}, {most}]"
            )

    def asked(self, pairs: int) -> int:
        """Return the number of queries in a row with this many pairs."""
        return pairs if self.num_queries is None else self.num_queries

    @property
    def settings(self) -> tuple[int, ...]:
        """Return `num_pairs` as a tuple."""
        pairs = self.num_pairs
        return pairs if isinstance(pairs, tuple) else (pairs,)

    @property
    def chance(self) -> float:
        """Return the accuracy of guessing any of the row's values: 1 / pairs."""
        return sum(1 / pairs for pairs in self.settings) / len(self.settings)

    def chance_of(self, setting: Mapping[str, Any]) -> float:
        """Return 1 / pairs for one number of pairs."""
        return 1 / setting["num_pairs"]

    @property
    def context_length(self) -> int:
        """Return the most tokens in a row's block of pairs."""
        return 2 * max(self.settings) * self.num_passes

    @property
    def kinds(self) -> tuple[Setting, ...]:
        """Return the settings that rows alternate between, before any shuffle."""
        shared: Setting = {"length": self.length}
        if self.num_queries is not None:
            shared["num_queries"] = self.num_queries
        return tuple({"num_pairs": pairs, **shared} for pairs in self.settings)

    def build(self, split: Split) -> "Mqar":
        """Build one split of the task."""
        return Mqar(self, split)

    def content(self) -> dict[str, int | str]:
        """Return an empty dict: every byte follows from the config."""
        return {}


class Mqar:
    """One split of multi-query associative recall."""

    def __init__(self, config: MqarConfig, split: Split) -> None:
        self.config = config
        self._split = SPLITS.index(split)
        self._finite = split == "train" and config.num_examples is not None

    def __len__(self) -> int:
        return self.config.num_examples or ENDLESS if self._finite else ENDLESS

    def examples(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """Return the rows with these numbers, with one target per query."""
        indices = indices.astype(np.int64)
        if self._finite:
            indices = self._shuffled(indices)
        settings = self.config.settings
        if len(settings) == 1:
            return self._rows(indices, settings[0])
        parts = []
        for number in range(len(settings)):
            rows = np.flatnonzero(indices % len(settings) == number)
            parts.append((rows, self._rows(indices[rows], settings[number])))
        most = self.config.asked(max(settings))
        return _merge(parts, len(indices), self.config.length, most)

    def setting(self, index: int) -> Setting:
        """Return the setting of row `index`, after the epoch's shuffle."""
        if self._finite:
            index = int(self._shuffled(np.array([index], np.int64))[0])
        return self.config.kinds[index % len(self.config.kinds)]

    def _rows(self, indices: Int64[np.ndarray, "b"], pairs: int) -> Batch:
        """Return rows of one setting."""
        config, half = self.config, self.config.vocab_size // 2
        block = 2 * pairs * config.num_passes
        keys = 1 + counter.distinct(self._key(indices, _KEYS), pairs, half - 1)
        values = half + counter.distinct(self._key(indices, _VALUES), pairs, half)
        space = (config.length - block) // 2
        race = self._key(indices, _SLOTS)
        queries = config.asked(pairs)
        slots = slots_by_weight(race, queries, space, config.power)
        positions = block + 2 * slots
        if config.filler == "blank":
            tokens = np.zeros((len(indices), config.length), np.int32)
        else:
            words = counter.bits(self._key(indices, _FILLER), config.length)
            tokens = counter.bounded(words, config.vocab_size).astype(np.int32)
        pair_block = np.stack([keys, values], axis=2).reshape(len(indices), 2 * pairs)
        tokens[:, :block] = np.tile(pair_block, (1, config.num_passes))
        if config.num_queries is not None:
            chosen = counter.distinct(self._key(indices, _ASKED), queries, pairs)
            keys, values = (np.take_along_axis(x, chosen, 1) for x in (keys, values))
        np.put_along_axis(tokens, positions, keys.astype(np.int32), axis=1)
        return Batch(
            tokens=tokens,
            targets=values.astype(np.int32),
            target_positions=positions.astype(np.int32),
            target_weights=np.ones(values.shape, np.float32),
            context=np.full(len(indices), block, np.int32),
        )

    def _key(self, indices: Int64[np.ndarray, "b"], stream: int) -> np.ndarray:
        return counter.key(self.config.seed, self._split, stream, index=indices)

    def _shuffled(self, indices: Int64[np.ndarray, "b"]) -> Int64[np.ndarray, "b"]:
        """Return the row numbers in the order of their epoch."""
        size = len(self)
        out = np.empty_like(indices)
        for epoch in np.unique(indices // size):
            rows = np.flatnonzero(indices // size == epoch)
            order = _epoch_order(self.config.seed, int(epoch), size)
            out[rows] = order[indices[rows] % size]
        return out


def slots_by_weight(
    keys: UInt64[np.ndarray, "b"], count: int, size: int, power: float
) -> Int64[np.ndarray, "b {count}"]:
    """Draw `count` different slots of `size`, one after the other, by their weights.

    Slot `i = 1 .. size` has the weight `i^(power - 1)`. Exponential variates divided by
    the weights give these draws in increasing order (the exponential race). The weights
    are 32-bit integers made from decimals, so only integer arithmetic decides the
    slots.
    """
    variates = counter.exponential(counter.bits(keys, size))
    times = variates * _inverse_weights(size, power)
    return np.argsort(times, axis=1, kind="stable")[:, :count]


@functools.lru_cache(maxsize=64)
def _inverse_weights(size: int, power: float) -> UInt64[np.ndarray, "{size}"]:
    """Return `i^(1 - power)` for `i = 1 .. size`, scaled so that the largest is
    2^32.
    """
    context = Context(prec=28)
    exponent = context.subtract(Decimal(1), Decimal(repr(power)))
    raw = [
        context.exp(context.multiply(exponent, context.ln(Decimal(i))))
        for i in range(1, size + 1)
    ]
    scale = context.divide(Decimal(2**32), max(raw))
    return np.array([int(context.multiply(r, scale)) for r in raw], np.uint64)


@functools.lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, size: int) -> Int64[np.ndarray, "{size}"]:
    return counter.permutation(counter.key(seed, 0, _ORDER, epoch), size)


def _merge(
    parts: list[tuple[np.ndarray, Batch]], rows: int, length: int, targets: int
) -> Batch:
    """Merge parts with fewer targets each into one batch; missing targets have weight
    0."""
    tokens = np.zeros((rows, length), np.int32)
    values = np.zeros((rows, targets), np.int32)
    positions = np.zeros((rows, targets), np.int32)
    weights = np.zeros((rows, targets), np.float32)
    context = np.zeros(rows, np.int32)
    for where, part in parts:
        count = part.targets.shape[1]
        assert part.target_positions is not None and part.context is not None
        tokens[where] = part.tokens
        values[where, :count] = part.targets
        positions[where, :count] = part.target_positions
        weights[where, :count] = part.target_weights
        context[where] = part.context
    return Batch(tokens, values, positions, weights, context=context)
