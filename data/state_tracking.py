"""State tracking: running products of permutations (arXiv 2411.12537, 2404.08819)."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
from jaxtyping import Int, Int32

from memzoo.errors import InputError

from . import counter
from .batch import Batch
from .task import ENDLESS, MOST_TOKENS, SPLITS, Setting, Split

Group = Literal["parity", "S3", "S4", "S5"]

# Permuted objects of each group; two objects have the parity as their only state.
_OBJECTS: Mapping[str, int] = {"parity": 2, "S3": 3, "S4": 4, "S5": 5}


@dataclass(frozen=True, kw_only=True)
class StateTrackingConfig:
    """Elements of a group; the target at each place is the product so far.

    The elements of `S3` are the 6 permutations of 3 objects, numbered in lexicographic
    order. The product applies the tokens in the order in which they are read. With
    `parity`, tokens are 0 and 1, and the product is their sum modulo 2:

        tokens    0  1  1  0  1
        targets   0  1  0  0  1

    Tokens are drawn uniformly. One layer whose transitions have only positive
    eigenvalues cannot solve parity at every length. Products that depend on their order
    (`S3`) also need transitions that are not diagonal. Train at one length and read at
    another: `memzoo eval RUN --lengths 32,128`.

    Attributes:
        group: group of the tokens: parity, or all permutations of 3, 4 or 5 objects.
        length: tokens in a row.
        seed: determines every draw. No row repeats.
    """

    task_name: ClassVar[str] = "state_tracking"
    data_version: ClassVar[int] = 1

    group: Group = "parity"
    length: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if self.group not in get_args(Group):
            raise InputError(
                f"group is {self.group!r}; choose one of {', '.join(get_args(Group))}"
            )
        if not 1 <= self.length <= MOST_TOKENS:
            raise InputError(f"length is {self.length}; give 1 to {MOST_TOKENS}")

    @property
    def vocab_size(self) -> int:
        """Return the number of elements of the group."""
        return math.factorial(_OBJECTS[self.group])

    @property
    def chance(self) -> float:
        """Return the accuracy of guessing any element."""
        return 1 / self.vocab_size

    def build(self, split: Split) -> "StateTracking":
        """Build one split of the task."""
        return StateTracking(self, split)

    def content(self) -> dict[str, int | str]:
        """Return an empty dict: every byte follows from the config."""
        return {}


class StateTracking:
    """One split of state tracking."""

    def __init__(self, config: StateTrackingConfig, split: Split) -> None:
        self.config = config
        self._split = SPLITS.index(split)
        self._table = product_table(config.group)

    def __len__(self) -> int:
        return ENDLESS

    def examples(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """Return the rows with these numbers, with a target at every token."""
        config = self.config
        keys = counter.key(config.seed, self._split, index=indices.astype(np.int64))
        words = counter.bits(keys, config.length)
        tokens = counter.bounded(words, config.vocab_size).astype(np.int32)
        targets = np.empty_like(tokens)
        state = np.zeros(len(tokens), np.int32)
        for place in range(config.length):
            state = self._table[state, tokens[:, place]]
            targets[:, place] = state
        return Batch(
            tokens=tokens,
            targets=targets,
            target_positions=None,
            target_weights=np.ones(tokens.shape, np.float32),
        )

    def setting(self, index: int) -> Setting:
        """Return the setting of every row: its length."""
        del index
        return {"length": self.config.length}


def elements(group: str) -> list[tuple[int, ...]]:
    """Return the permutations of a group; element 0 changes nothing."""
    return list(itertools.permutations(range(_OBJECTS[group])))


def product_table(group: str) -> Int32[np.ndarray, "m m"]:
    """Return the number of each product: row first, then column."""
    all_of_them = elements(group)
    number = {element: index for index, element in enumerate(all_of_them)}
    products = [
        [number[tuple(then[place] for place in first)] for then in all_of_them]
        for first in all_of_them
    ]
    return np.array(products, np.int32)
