"""Needle in a haystack, in token form (after RULER, arXiv 2404.06654)."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Int, Int32, Int64

from memzoo.errors import InputError

from . import counter
from .batch import Batch
from .task import ENDLESS, MOST_TOKENS, SPLITS, Setting, Split

# Positions of the needle when it is read at another length, as shares of the noise.
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)

KEY_MARKER, VALUE_MARKER = 0, 1

# "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back
# again.": one token per word and per full stop, numbered by first appearance.
_WORDS = (0, 1, 2, 3, 4, 0, 5, 2, 6, 4, 0, 7, 2, 8, 4, 9, 10, 11, 4, 12, 13, 14, 15, 4)
PHRASE = tuple(2 + word for word in _WORDS)
FIRST_KEY = 1 + max(PHRASE)

# Numbers of the streams; golden values in the tests depend on them.
_KEY, _VALUES, _PLACE = range(3)


@dataclass(frozen=True, kw_only=True)
class NeedleConfig:
    """One key with a value of several tokens, hidden in noise; then the key again.

    The noise repeats a phrase of 24 tokens. The needle, `KEY k VAL v1 .. v7`, stands
    somewhere in it, and the question, `KEY k VAL`, after it. The targets are the tokens
    of the value, each predicted from the true tokens before it:

        tokens    noise  KEY k VAL v1 .. v7  noise  KEY k VAL v1 .. v6
        targets                                           v1  v2 .. v7

    All tokens are right exactly if greedy decoding would output the value. Tokens 0 and
    1 are the markers, 2 to 17 the words of the phrase. The first half of the others are
    keys, the second half values. Key and value tokens are drawn uniformly and
    independently: a value may contain a token twice.

    Attributes:
        length: tokens per row.
        depth: share of the noise before the needle, from 0 to 1. A tuple mixes
            settings: row `i` has `depth[i % len(depth)]`. `None`: every position is
            equally likely.
        vocab_size: number of tokens.
        value_length: tokens of the value.
        seed: determines every draw. No row repeats.

    Differs from RULER's passkey in: tokens instead of words, the question has no
    wording of its own, the needle may stand inside a phrase, and every row has exactly
    `length` tokens.
    """

    task_name: ClassVar[str] = "needle"
    data_version: ClassVar[int] = 1
    setting_words: ClassVar[Mapping[str, str]] = {"depth": "depth {:g}"}

    length: int = 256
    depth: float | tuple[float, ...] | None = None
    vocab_size: int = 128
    value_length: int = 7
    seed: int = 0

    def __post_init__(self) -> None:
        if self.value_length < 1:
            raise InputError(f"value_length is {self.value_length}; give 1 or more")
        if self.noise_length < 0:
            raise InputError(
                f"length is {self.length}; with value_length {self.value_length} give "
                f"{self.length - self.noise_length} or more"
            )
        if self.length > MOST_TOKENS:
            raise InputError(f"length is {self.length}; give {MOST_TOKENS} or less")
        if not FIRST_KEY + 2 <= self.vocab_size <= 2**31:
            raise InputError(
                f"vocab_size is {self.vocab_size}; give a number in "
                f"[{FIRST_KEY + 2}, 2^31]"
            )
        if self.depth is not None and not self.depths:
            raise InputError("depth is empty; give a number, or None for any depth")
        for depth in self.depths:
            if not 0 <= depth <= 1:
                raise InputError(f"depth is {depth}; give a number in [0, 1]")

    @property
    def depths(self) -> tuple[float, ...]:
        """Return `depth` as a tuple, empty for `None`."""
        if self.depth is None:
            return ()
        return self.depth if isinstance(self.depth, tuple) else (self.depth,)

    @property
    def noise_length(self) -> int:
        """Return the tokens of noise in a row."""
        return self.length - 2 * self.value_length - 5

    @property
    def context_length(self) -> int:
        """Return the tokens of a row before the question."""
        return self.length - self.value_length - 2

    @property
    def first_value(self) -> int:
        """Return the first value token; all later tokens are values."""
        return FIRST_KEY + (self.vocab_size - FIRST_KEY) // 2

    @property
    def chance(self) -> float:
        """Return the accuracy of guessing any value token."""
        return 1 / (self.vocab_size - self.first_value)

    @property
    def kinds(self) -> tuple[Setting, ...]:
        """Return the settings that rows alternate between."""
        length: Setting = {"length": self.length}
        depths = tuple(length | {"depth": float(depth)} for depth in self.depths)
        return depths or (length,)

    def at_length(self, length: int) -> "NeedleConfig":
        """Return the task with rows of another length, the needle at `DEPTHS`."""
        return dataclasses.replace(self, length=length, depth=DEPTHS)

    def build(self, split: Split) -> "Needle":
        """Build one split of the task."""
        return Needle(self, split)

    def content(self) -> dict[str, int | str]:
        """Return an empty dict: every byte follows from the config."""
        return {}


class Needle:
    """One split of the needle in a haystack."""

    def __init__(self, config: NeedleConfig, split: Split) -> None:
        self.config = config
        self._split = SPLITS.index(split)

    def __len__(self) -> int:
        return ENDLESS

    def examples(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """Return the rows with these numbers, with one target per token of the
        value.
        """
        config = self.config
        indices = indices.astype(np.int64)
        rows, size = len(indices), config.value_length
        keys = FIRST_KEY + self._draw(indices, _KEY, 1, config.first_value - FIRST_KEY)
        values = config.first_value + self._draw(
            indices, _VALUES, size, config.vocab_size - config.first_value
        )
        markers = np.full((rows, 1), KEY_MARKER), np.full((rows, 1), VALUE_MARKER)
        needle = np.concatenate([markers[0], keys, markers[1], values], axis=1)
        asked, start = config.context_length, self._places(indices)[:, None]
        # After the needle, the noise continues where it stopped.
        column = np.arange(asked)
        source = np.where(column < start + size + 3, column, column - size - 3)
        tokens = np.empty((rows, config.length), np.int32)
        tokens[:, :asked] = np.resize(PHRASE, asked)[source]
        where = start + np.arange(size + 3)
        np.put_along_axis(tokens, where, needle.astype(np.int32), axis=1)
        tokens[:, asked:] = needle[:, : size + 2]
        positions = np.arange(config.length - size, config.length, dtype=np.int32)
        return Batch(
            tokens=tokens,
            targets=values.astype(np.int32),
            target_positions=np.tile(positions, (rows, 1)),
            target_weights=np.ones(values.shape, np.float32),
            context=np.full(rows, asked, np.int32),
        )

    def setting(self, index: int) -> Setting:
        """Return the setting of row `index`."""
        return self.config.kinds[index % len(self.config.kinds)]

    def _places(self, indices: Int64[np.ndarray, "b"]) -> Int64[np.ndarray, "b"]:
        """Return the tokens of noise before each needle."""
        noise = self.config.noise_length
        if not self.config.depths:
            return self._draw(indices, _PLACE, 1, noise + 1)[:, 0]
        places = [round(depth * noise) for depth in self.config.depths]
        return np.array(places, np.int64)[indices % len(places)]

    def _draw(
        self, indices: Int64[np.ndarray, "b"], stream: int, count: int, size: int
    ) -> Int64[np.ndarray, "b {count}"]:
        """Draw integers in `[0, size)` independently."""
        key = counter.key(self.config.seed, self._split, stream, index=indices)
        return counter.bounded(counter.bits(key, count), size)


def solve(
    tokens: Int32[np.ndarray, "b t"], value_length: int = 7
) -> Int32[np.ndarray, "b n"]:
    """Return the answers of a perfect memory, from the tokens alone.

    Raises:
        InputError: a row has no needle with the key that is asked for.
    """
    asked = tokens.shape[1] - value_length - 2
    answers = np.empty((len(tokens), value_length), np.int32)
    for answer, row in zip(answers, tokens, strict=True):
        key = row[asked + 1]
        starts = [
            at
            for at in np.flatnonzero(row[:asked] == KEY_MARKER)
            if (row[at + 1], row[at + 2]) == (key, VALUE_MARKER)
        ]
        if not starts:
            raise InputError(f"no needle with the key {key}; give rows of this task")
        answer[:] = row[starts[0] + 3 : starts[0] + 3 + value_length]
    return answers
