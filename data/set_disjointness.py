"""Two sets that share one token, which is the answer (JRT, arXiv 2407.05483)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Int, Int32, Int64

from memzoo.errors import InputError

from . import counter
from .batch import Batch
from .task import ENDLESS, SPLITS, Setting, Split

BLANK, BEGIN, SEPARATOR, QUESTION = range(4)
FIRST_TOKEN = 4

# Numbers of the streams; golden values in the tests depend on them.
_TOKENS, _PLACES = range(2)


@dataclass(frozen=True, kw_only=True)
class SetDisjointnessConfig:
    """Two sets, one after the other; then the target is the one token that both hold.

    With sets of 2 and 4 tokens (`.` means no target):

        tokens    1  17  9  2  30  9  8  21  3
        targets   .   .  .  .   .  .  .   .  9

    Tokens are drawn without replacement from `[4, vocab_size)`. A random token of the
    first set then replaces a random token of the second. A memory that reads once must
    keep the whole first set, even if it is much larger than the second. Read twice, or
    non-causally, the smaller of the two is enough.

    Attributes:
        sizes: sizes of the first and the second set. Several pairs are mixed: row `i`
            has `sizes[i % len(sizes)]`; shorter rows are padded after the question.
        vocab_size: number of tokens, four of them special.
        seed: determines every draw. No row repeats.

    Differs from the published generator in: rows are endless and sizes are mixed in one
    batch; the vocabulary's halves are not drawn first, which gives the same rows.
    """

    task_name: ClassVar[str] = "set_disjointness"
    data_version: ClassVar[int] = 1
    setting_words: ClassVar[Mapping[str, str]] = {
        "first": "a set of {}",
        "second": "then of {}",
    }

    sizes: tuple[tuple[int, int], ...] = ((4, 16),)
    vocab_size: int = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.sizes:
            raise InputError("sizes is empty; give at least one pair, such as (4, 16)")
        if not FIRST_TOKEN < self.vocab_size <= 2**31:
            raise InputError(
                f"vocab_size is {self.vocab_size}; give a number in [5, 2^31]"
            )
        for pair in self.sizes:
            most = self.vocab_size - FIRST_TOKEN
            if min(pair) < 1 or sum(pair) > most:
                raise InputError(
                    f"sizes holds {pair}; with vocab_size {self.vocab_size} give "
                    f"1 or more for both, and {most} or less together"
                )

    @property
    def length(self) -> int:
        """Return the tokens of the longest row."""
        return self.context_length + 1

    @property
    def context_length(self) -> int:
        """Return the most tokens of a row before the question."""
        return 2 + max(sum(pair) for pair in self.sizes)

    @property
    def chance(self) -> float:
        """Return the accuracy of guessing any token of the smaller set."""
        return sum(1 / min(pair) for pair in self.sizes) / len(self.sizes)

    @property
    def kinds(self) -> tuple[Setting, ...]:
        """Return the settings that rows alternate between."""
        return tuple(
            {"first": first, "second": second, "length": first + second + 3}
            for first, second in self.sizes
        )

    def build(self, split: Split) -> "SetDisjointness":
        """Build one split of the task."""
        return SetDisjointness(self, split)

    def content(self) -> dict[str, int | str]:
        """Return an empty dict: every byte follows from the config."""
        return {}


class SetDisjointness:
    """One split of set disjointness."""

    def __init__(self, config: SetDisjointnessConfig, split: Split) -> None:
        self.config = config
        self._split = SPLITS.index(split)

    def __len__(self) -> int:
        return ENDLESS

    def examples(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """Return the rows with these numbers, with one target each."""
        config = self.config
        indices = indices.astype(np.int64)
        rows, length = len(indices), config.length
        tokens = np.full((rows, length), BLANK, np.int32)
        targets = np.zeros((rows, 1), np.int32)
        ends = np.zeros(rows, np.int64)
        for number, pair in enumerate(config.sizes):
            chosen = np.flatnonzero(indices % len(config.sizes) == number)
            row, answer = self._rows(indices[chosen], *pair)
            tokens[chosen, : row.shape[1]] = row
            targets[chosen, 0] = answer
            ends[chosen] = row.shape[1]
        valid = np.arange(length) < ends[:, None]
        mixed = len({sum(pair) for pair in config.sizes}) > 1
        return Batch(
            tokens=tokens,
            targets=targets,
            target_positions=(ends - 1).astype(np.int32)[:, None],
            target_weights=np.ones((rows, 1), np.float32),
            valid=valid if mixed else None,
            context=(ends - 1).astype(np.int32),
        )

    def setting(self, index: int) -> Setting:
        """Return the setting of row `index`."""
        return self.config.kinds[index % len(self.config.kinds)]

    def _rows(
        self, indices: Int64[np.ndarray, "b"], first: int, second: int
    ) -> tuple[Int64[np.ndarray, "b t"], Int64[np.ndarray, "b"]]:
        """Return rows of one pair of sizes, and the tokens that their sets share."""
        size = self.config.vocab_size - FIRST_TOKEN
        drawn = counter.distinct(self._key(indices, _TOKENS), first + second, size)
        sets = FIRST_TOKEN + drawn
        words = counter.bits(self._key(indices, _PLACES), 2)
        here = counter.bounded(words[:, 0], first)
        there = first + counter.bounded(words[:, 1], second)
        row = np.arange(len(indices))
        shared = sets[row, here]
        sets[row, there] = shared
        special = np.empty((3, len(indices), 1), np.int64)
        special[:, :, 0] = np.array([[BEGIN], [SEPARATOR], [QUESTION]])
        begin, separator, question = special
        parts = [begin, sets[:, :first], separator, sets[:, first:], question]
        return np.concatenate(parts, axis=1), shared

    def _key(self, indices: Int64[np.ndarray, "b"], stream: int) -> np.ndarray:
        return counter.key(self.config.seed, self._split, stream, index=indices)


def solve(tokens: Int32[np.ndarray, "b t"]) -> Int32[np.ndarray, "b"]:
    """Return the answers of a perfect memory, from the tokens alone.

    Raises:
        InputError: the sets of a row share no token, or several.
    """
    answers = np.empty(len(tokens), np.int32)
    for number, row in enumerate(tokens.tolist()):
        begin, middle = row.index(BEGIN), row.index(SEPARATOR)
        end = row.index(QUESTION, middle)
        shared = set(row[begin + 1 : middle]) & set(row[middle + 1 : end])
        if len(shared) != 1:
            raise InputError(
                f"the sets of row {number} share {len(shared)} tokens; give rows of "
                "this task"
            )
        answers[number] = shared.pop()
    return answers
