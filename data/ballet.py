"""Ballet in token form: who danced which dance (HCAM, arXiv 2105.14039)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from jaxtyping import Int, Int32, Int64

from memzoo.errors import InputError

from . import counter
from .batch import Batch
from .task import ENDLESS, MOST_TOKENS, SPLITS, Setting, Split

Answer = Literal["dancer", "dance"]

DIRECTIONS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")
MOVES = 16

# Any two dances differ within their first three moves.
LEAST_MOVES = 3
DANCES: Mapping[str, str] = {
    "circle_cw": "N E S S W W N N E E S S W W N E",
    "circle_ccw": "N W S S E E N N W W S S E E N W",
    "up_and_down": "N S S N " * 4,
    "left_and_right": "E W W E " * 4,
    "diagonal_uldr": "NW SE SE NW " * 4,
    "diagonal_urdl": "NE SW SW NE " * 4,
    "plus_cw": "N S E W S N W E " * 2,
    "plus_ccw": "N S W E S N E W " * 2,
    "times_cw": "NE SW SE NW SW NE NW SE " * 2,
    "times_ccw": "NW SE SW NE SE NW NE SW " * 2,
    "zee": "NE W W E E SW NE SW SW E E W W NE SW NE",
    "chevron_down": "NW S SE NE N SW NE SW NE S SW NW N SE NW SE",
    "chevron_up": "SE N NW SW S NE SW NE SW N NE SE S NW SE NW",
}
DANCERS = 8

STILL, ASK = 0, 1
FIRST_MOVE = 2
FIRST_DANCER = FIRST_MOVE + len(DIRECTIONS)
FIRST_DANCE = FIRST_DANCER + DANCERS

# Numbers of the streams; golden values in the tests depend on them.
_DANCERS, _DANCES, _ASKED = range(3)


def moves() -> Int64[np.ndarray, "dances moves"]:
    """Return the tokens of every dance, one row each, in the order of `DANCES`."""
    return np.array(
        [
            [FIRST_MOVE + DIRECTIONS.index(move) for move in dance.split()]
            for dance in DANCES.values()
        ]
    )


@dataclass(frozen=True, kw_only=True)
class BalletConfig:
    """Dancers perform one after the other; then one dance asks for its dancer.

    With 2 dancers, a dance length of 3 and a delay of 2 (`.`: standing still):

        tokens    dancer5  N E S  . .  dancer2  E W W  . .  ASK left_and_right
        target                                                       dancer2

    The dancers are drawn without replacement from 8, their dances from the 13 published
    ones; the dancer who is asked for is drawn uniformly. A dance is a sequence of steps
    in 8 directions. Its name is never shown with it: the names are learned from the
    answers. Train with few dancers and a short delay, then read with more and a longer
    one: `memzoo recall --task ballet`.

    Tokens: 0 stands still, 1 asks, 2 to 9 are the directions clockwise from north, 10
    to 17 the dancers, 18 to 30 the names of the dances.

    Attributes:
        num_dancers: dancers in a row, 2 to 8. A tuple mixes settings: row `i` has
            `num_dancers[i % len(num_dancers)]`; shorter rows are padded after the
            question.
        delay: steps of standing still after every dance, also the last.
        dance_length: moves of a dance that are shown, from its first; 3 to 16.
        answer: target: the dancer, given the name of the dance (published), or the name
            of the dance, given the dancer.
        seed: determines every draw. Each split draws from its own streams; with 2
            dancers, two splits may still share a row by chance.

    Differs from the published environment in: tokens instead of pictures, dancers
    without a place, and an answer of one token instead of a walk to the dancer.
    """

    task_name: ClassVar[str] = "ballet"
    data_version: ClassVar[int] = 1
    setting_words: ClassVar[Mapping[str, str]] = {
        "num_dancers": "{} dancers",
        "delay": "delay {}",
    }

    num_dancers: int | tuple[int, ...] = 4
    delay: int = 16
    dance_length: int = MOVES
    answer: Answer = "dancer"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.settings:
            raise InputError("num_dancers is empty; give at least one number")
        for dancers in self.settings:
            if not 2 <= dancers <= DANCERS:
                raise InputError(f"num_dancers is {dancers}; give 2 to {DANCERS}")
        if not LEAST_MOVES <= self.dance_length <= MOVES:
            raise InputError(
                f"dance_length is {self.dance_length}; give {LEAST_MOVES} to {MOVES}"
            )
        most = MOST_TOKENS // DANCERS - self.dance_length - 2
        if not 0 <= self.delay <= most:
            raise InputError(f"delay is {self.delay}; give 0 to {most}")
        if self.answer not in get_args(Answer):
            raise InputError(f"answer is {self.answer!r}; choose 'dancer' or 'dance'")

    @property
    def settings(self) -> tuple[int, ...]:
        """Return `num_dancers` as a tuple."""
        dancers = self.num_dancers
        return dancers if isinstance(dancers, tuple) else (dancers,)

    @property
    def vocab_size(self) -> int:
        """Return the number of tokens."""
        return FIRST_DANCE + len(DANCES)

    @property
    def length(self) -> int:
        """Return the tokens of the longest row."""
        return self.context_length + 2

    @property
    def context_length(self) -> int:
        """Return the most tokens of a row before the question."""
        return self.shown(max(self.settings))

    def shown(self, dancers: int) -> int:
        """Return the tokens before the question for one number of dancers."""
        return dancers * (1 + self.dance_length + self.delay)

    @property
    def chance(self) -> float:
        """Return the accuracy of guessing any dancer, or any dance, of the row."""
        return sum(1 / dancers for dancers in self.settings) / len(self.settings)

    def chance_of(self, setting: Mapping[str, Any]) -> float:
        """Return 1 / dancers for one number of dancers."""
        return 1 / setting["num_dancers"]

    @property
    def kinds(self) -> tuple[Setting, ...]:
        """Return the settings that rows alternate between."""
        return tuple(
            {
                "num_dancers": dancers,
                "delay": self.delay,
                "length": self.shown(dancers) + 2,
            }
            for dancers in self.settings
        )

    def build(self, split: Split) -> "Ballet":
        """Build one split of the task."""
        return Ballet(self, split)

    def content(self) -> dict[str, int | str]:
        """Return an empty dict: every byte follows from the config."""
        return {}


class Ballet:
    """One split of the ballet task."""

    def __init__(self, config: BalletConfig, split: Split) -> None:
        self.config = config
        self._split = SPLITS.index(split)
        self._moves = moves()[:, : config.dance_length]

    def __len__(self) -> int:
        return ENDLESS

    def examples(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """Return the rows with these numbers, with one target each."""
        config = self.config
        indices = indices.astype(np.int64)
        rows, settings = len(indices), config.settings
        tokens = np.full((rows, config.length), STILL, np.int32)
        targets = np.zeros((rows, 1), np.int32)
        number = indices % len(settings)
        for which, dancers in enumerate(settings):
            chosen = np.flatnonzero(number == which)
            row, answer = self._rows(indices[chosen], dancers)
            tokens[chosen, : row.shape[1]] = row
            targets[chosen, 0] = answer
        context = np.array([config.shown(n) for n in settings], np.int32)[number]
        valid = np.arange(config.length) < context[:, None] + 2
        return Batch(
            tokens=tokens,
            targets=targets,
            target_positions=context[:, None] + np.int32(1),
            target_weights=np.ones((rows, 1), np.float32),
            valid=valid if len(set(settings)) > 1 else None,
            context=context,
        )

    def setting(self, index: int) -> Setting:
        """Return the setting of row `index`."""
        return self.config.kinds[index % len(self.config.kinds)]

    def _rows(
        self, indices: Int64[np.ndarray, "b"], count: int
    ) -> tuple[Int64[np.ndarray, "b t"], Int64[np.ndarray, "b"]]:
        """Return rows with `count` dancers, and their answers."""
        config, rows = self.config, len(indices)
        drawn = counter.distinct(self._key(indices, _DANCERS), count, DANCERS)
        dancers = FIRST_DANCER + drawn
        dances = counter.distinct(self._key(indices, _DANCES), count, len(DANCES))
        asked = counter.bounded(counter.bits(self._key(indices, _ASKED), 1), count)
        shown = np.full((rows, count, config.shown(1)), STILL, np.int64)
        shown[:, :, 0] = dancers
        shown[:, :, 1 : 1 + config.dance_length] = self._moves[dances]
        dancer = np.take_along_axis(dancers, asked, axis=1)
        dance = FIRST_DANCE + np.take_along_axis(dances, asked, axis=1)
        given, answer = (
            (dance, dancer) if config.answer == "dancer" else (dancer, dance)
        )
        ask = np.full((rows, 1), ASK)
        tokens = np.concatenate(
            [shown.reshape(rows, config.shown(count)), ask, given], axis=1
        )
        return tokens, answer[:, 0]

    def _key(self, indices: Int64[np.ndarray, "b"], stream: int) -> np.ndarray:
        return counter.key(self.config.seed, self._split, stream, index=indices)


def solve(tokens: Int32[np.ndarray, "b t"]) -> Int32[np.ndarray, "b"]:
    """Return the answers of a perfect memory that knows the dances, from the tokens
    alone.

    Raises:
        InputError: a row does not show what it asks for.
    """
    names = {
        tuple(dance[:LEAST_MOVES]): FIRST_DANCE + number
        for number, dance in enumerate(moves().tolist())
    }
    answers = np.empty(len(tokens), np.int32)
    for number, row in enumerate(tokens.tolist()):
        end = row.index(ASK)
        danced = {}
        for at, token in enumerate(row[:end]):
            if FIRST_DANCER <= token < FIRST_DANCE:
                name = names[tuple(row[at + 1 : at + 1 + LEAST_MOVES])]
                danced |= {name: token, token: name}
        asked = row[end + 1]
        if asked not in danced:
            raise InputError(
                f"row {number} asks for token {asked}, which it does not show; give "
                "rows of this task"
            )
        answers[number] = danced[asked]
    return answers
