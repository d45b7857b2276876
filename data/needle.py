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
_KEY, _VALUES, _PLACE, _OTHER_KEYS, _OTHER_VALUES, _OTHER_PLACES, _TIES = range(7)


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

    With `num_needles` above 1, needles with other keys and values stand elsewhere in
    the noise, and only the question shows which needle is wanted.

    Attributes:
        length: tokens per row.
        depth: share of the noise before the needle that is asked for, from 0 to 1. A
            tuple mixes settings: row `i` has `depth[i % len(depth)]`. `None`: every
            position is equally likely, as it is for all other needles.
        vocab_size: number of tokens.
        value_length: tokens of the value.
        seed: determines every draw. No row repeats.
        num_needles: needles in a row; the last tokens ask for one of them. `None`:
            one needle, and the setting of a row omits the number.

    Differs from RULER's passkey in: tokens instead of words, the question is its
    markers and its key, a needle may stand inside a phrase, and every row has exactly
    `length` tokens. Several needles differ from its multi-key task in the same way.
    """

    task_name: ClassVar[str] = "needle"
    data_version: ClassVar[int] = 1
    setting_words: ClassVar[Mapping[str, str]] = {
        "num_needles": "{} needles",
        "depth": "depth {:g}",
    }

    length: int = 256
    depth: float | tuple[float, ...] | None = None
    vocab_size: int = 128
    value_length: int = 7
    seed: int = 0
    num_needles: int | None = None

    def __post_init__(self) -> None:
        if self.value_length < 1:
            raise InputError(f"value_length is {self.value_length}; give 1 or more")
        if self.needles < 1:
            raise InputError(f"num_needles is {self.num_needles}; give 1 or more")
        if self.noise_length < 0:
            several = f" and num_needles {self.needles}" if self.num_needles else ""
            raise InputError(
                f"length is {self.length}; with value_length {self.value_length}"
                f"{several} give {self.length - self.noise_length} or more"
            )
        if self.length > MOST_TOKENS:
            raise InputError(f"length is {self.length}; give {MOST_TOKENS} or less")
        if not FIRST_KEY + 2 <= self.vocab_size <= 2**31:
            raise InputError(
                f"vocab_size is {self.vocab_size}; give a number in "
                f"[{FIRST_KEY + 2}, 2^31]"
            )
        keys = self.first_value - FIRST_KEY
        if self.needles > keys:
            raise InputError(
                f"num_needles is {self.num_needles}; with vocab_size "
                f"{self.vocab_size} give 1 to {keys}, one for each key"
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
    def needles(self) -> int:
        """Return the number of needles in a row."""
        return 1 if self.num_needles is None else self.num_needles

    @property
    def needle_length(self) -> int:
        """Return the tokens of one needle."""
        return self.value_length + 3

    @property
    def noise_length(self) -> int:
        """Return the tokens of noise in a row."""
        return self.context_length - self.needles * self.needle_length

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
        shared: Setting = {"length": self.length}
        if self.num_needles is not None:
            shared["num_needles"] = self.num_needles
        depths = tuple(shared | {"depth": float(depth)} for depth in self.depths)
        return depths or (shared,)

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
        needles, starts = self._needles(indices)
        asked = config.context_length
        shape = rows, config.needles * config.needle_length
        there = starts[:, :, None] + np.arange(config.needle_length)
        there = there.reshape(shape)
        noise = np.ones((rows, asked), bool)
        np.put_along_axis(noise, there, False, axis=1)
        tokens = np.empty((rows, config.length), np.int32)
        # After a needle, the noise continues where it stopped.
        source = np.maximum(np.cumsum(noise, axis=1) - 1, 0)
        tokens[:, :asked] = np.resize(PHRASE, asked)[source]
        hidden = needles.reshape(shape).astype(np.int32)
        np.put_along_axis(tokens, there, hidden, axis=1)
        tokens[:, asked:] = needles[:, 0, : size + 2]
        positions = np.arange(config.length - size, config.length, dtype=np.int32)
        return Batch(
            tokens=tokens,
            targets=needles[:, 0, 3:].astype(np.int32),
            target_positions=np.tile(positions, (rows, 1)),
            target_weights=np.ones((rows, size), np.float32),
            context=np.full(rows, asked, np.int32),
        )

    def setting(self, index: int) -> Setting:
        """Return the setting of row `index`."""
        return self.config.kinds[index % len(self.config.kinds)]

    def _needles(
        self, indices: Int64[np.ndarray, "b"]
    ) -> tuple[Int64[np.ndarray, "b n size"], Int64[np.ndarray, "b n"]]:
        """Return the needles of each row and where they start; needle 0 is asked for.

        Needles at the same place of the noise follow each other in random order.
        """
        config = self.config
        rows, count, size = len(indices), config.needles, config.needle_length
        num_keys = config.first_value - FIRST_KEY
        num_values = config.vocab_size - config.first_value
        needles = np.empty((rows, count, size), np.int64)
        needles[:, :, 0], needles[:, :, 2] = KEY_MARKER, VALUE_MARKER
        key = self._draw(indices, _KEY, 1, num_keys)
        value = self._draw(indices, _VALUES, config.value_length, num_values)
        needles[:, 0, 1], needles[:, 0, 3:] = FIRST_KEY + key[:, 0], value
        places = self._places(indices)[:, None]
        if count > 1:
            # Number the other keys as if the one that is asked for were missing.
            others = self._key(indices, _OTHER_KEYS)
            others = counter.distinct(others, count - 1, num_keys - 1)
            needles[:, 1:, 1] = FIRST_KEY + others + (others >= key)
            shape = rows, count - 1, config.value_length
            drawn = self._draw(indices, _OTHER_VALUES, shape[1] * shape[2], num_values)
            needles[:, 1:, 3:] = drawn.reshape(shape)
            noise = config.noise_length
            elsewhere = self._draw(indices, _OTHER_PLACES, count - 1, noise + 1)
            places = np.concatenate([places, elsewhere], axis=1)
        needles[:, :, 3:] += config.first_value
        ties = counter.distinct(self._key(indices, _TIES), count, count)
        order = np.argsort(places * count + ties, axis=1)
        before = np.argsort(order, axis=1)
        return needles, places + before * size

    def _places(self, indices: Int64[np.ndarray, "b"]) -> Int64[np.ndarray, "b"]:
        """Return the tokens of noise before each needle that is asked for."""
        noise = self.config.noise_length
        if not self.config.depths:
            return self._draw(indices, _PLACE, 1, noise + 1)[:, 0]
        places = [round(depth * noise) for depth in self.config.depths]
        return np.array(places, np.int64)[indices % len(places)]

    def _draw(
        self, indices: Int64[np.ndarray, "b"], stream: int, count: int, size: int
    ) -> Int64[np.ndarray, "b {count}"]:
        """Draw integers in `[0, size)` independently."""
        words = counter.bits(self._key(indices, stream), count)
        return counter.bounded(words, size)

    def _key(self, indices: Int64[np.ndarray, "b"], stream: int) -> np.ndarray:
        return counter.key(self.config.seed, self._split, stream, index=indices)


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
