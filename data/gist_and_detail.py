"""Gist and detail: the theme of a segment, or one exact word inside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Int, Int32, Int64

from memzoo.errors import InputError

from . import counter
from .batch import Batch
from .task import ENDLESS, MOST_TOKENS, SPLITS, Setting, Split

QUESTIONS: tuple[Literal["gist", "detail"], ...] = ("gist", "detail")
GIST, DETAIL = 0, 1
FIRST_NAME, NAMES = 2, 16
FIRST_THEME = FIRST_NAME + NAMES
MOST_WORDS = 10**6

# Numbers of the streams; golden values in the tests depend on them.
_NAMES, _THEMES, _PLACES, _OTHERS, _WORDS, _ORDER, _ASKED = range(7)


@dataclass(frozen=True, kw_only=True)
class GistAndDetailConfig:
    """Named segments of words; a row asks for all their themes, or for words in them.

    With 2 segments of 3 words, 2 of each from the segment's theme (`A1` is a word of
    theme `A`; `.`: no target):

        tokens    s7  A1 B4 A3  s2  B2 B5 A9  GIST s2  GIST s7        (even rows)
        targets    .   .  .  .   .   .  .  .    .   B    .   A
        tokens    s7  A1 B4 A3  s2  B2 B5 A9  DETAIL A1  DETAIL B5    (odd rows)
        targets    .   .  .  .   .   .  .  .    .    B4    .    A9

    `GIST` asks for the theme of more than half of a segment's words. One word alone
    gives it only as often as `majority / segment_length`. `DETAIL` asks for the word
    that came after the given one; no word occurs twice in a row. The segments do not
    show which questions will come, so a memory must hold both. Every row asks once
    about each segment, in random order. Results are split by kind of question.

    Names are drawn without replacement from 16, themes uniformly. The places of the
    theme's words are random; every other word has one of the other themes, drawn
    uniformly. Tokens: 0 and 1 ask, 2 to 17 are names, then come the themes, then the
    words, theme by theme.

    Attributes:
        num_segments: segments in a row, 1 to 16.
        segment_length: words in a segment.
        majority: words of a segment that have its theme; more than half.
        num_themes: number of themes.
        words_per_theme: words of each theme; enough for all segments to share it.
        seed: determines every draw. No row repeats.
    """

    task_name: ClassVar[str] = "gist_and_detail"
    data_version: ClassVar[int] = 1
    setting_words: ClassVar[Mapping[str, str]] = {
        "question": "{} questions",
        "num_segments": "{} segments",
    }

    num_segments: int = 4
    segment_length: int = 8
    majority: int = 5
    num_themes: int = 4
    words_per_theme: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.num_segments <= NAMES:
            raise InputError(f"num_segments is {self.num_segments}; give 1 to {NAMES}")
        most = MOST_TOKENS // self.num_segments - 3
        if not 2 <= self.segment_length <= most:
            raise InputError(
                f"segment_length is {self.segment_length}; give 2 to {most}"
            )
        least = self.segment_length // 2 + 1
        if not least <= self.majority <= self.segment_length:
            raise InputError(
                f"majority is {self.majority}; with segment_length "
                f"{self.segment_length} give {least} to {self.segment_length}"
            )
        needed = self.num_segments * self.majority
        if not needed <= self.words_per_theme <= MOST_WORDS:
            raise InputError(
                f"words_per_theme is {self.words_per_theme}; with num_segments "
                f"{self.num_segments} and majority {self.majority} give {needed} to "
                f"{MOST_WORDS}"
            )
        most = (2**31 - FIRST_THEME) // (1 + self.words_per_theme)
        if not 2 <= self.num_themes <= most:
            raise InputError(f"num_themes is {self.num_themes}; give 2 to {most}")

    @property
    def first_word(self) -> int:
        """Return the first word; all later tokens are words."""
        return FIRST_THEME + self.num_themes

    @property
    def vocab_size(self) -> int:
        """Return the number of tokens."""
        return self.first_word + self.num_themes * self.words_per_theme

    @property
    def context_length(self) -> int:
        """Return the tokens of a row before the questions."""
        return self.num_segments * (1 + self.segment_length)

    @property
    def length(self) -> int:
        """Return the tokens in a row."""
        return self.context_length + 2 * self.num_segments

    @property
    def chance(self) -> float:
        """Return the mean chance of the two kinds of questions."""
        return sum(map(self.chance_of, self.kinds)) / len(QUESTIONS)

    def chance_of(self, setting: Mapping[str, Any]) -> float:
        """Return the accuracy of guessing any theme, or any word of the row that
        comes after another.
        """
        if setting["question"] == "gist":
            return 1 / self.num_themes
        return 1 / (self.num_segments * (self.segment_length - 1))

    @property
    def kinds(self) -> tuple[Setting, ...]:
        """Return the settings that rows alternate between: the kinds of questions."""
        return tuple(
            {
                "question": question,
                "num_segments": self.num_segments,
                "length": self.length,
            }
            for question in QUESTIONS
        )

    def build(self, split: Split) -> "GistAndDetail":
        """Build one split of the task."""
        return GistAndDetail(self, split)

    def content(self) -> dict[str, int | str]:
        """Return an empty dict: every byte follows from the config."""
        return {}


class GistAndDetail:
    """One split of gist and detail."""

    def __init__(self, config: GistAndDetailConfig, split: Split) -> None:
        self.config = config
        self._split = SPLITS.index(split)

    def __len__(self) -> int:
        return ENDLESS

    def examples(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """Return the rows with these numbers, with one target per segment."""
        config = self.config
        indices = indices.astype(np.int64)
        rows, count = len(indices), config.num_segments
        themes = self._draw(indices, _THEMES, count, config.num_themes)
        words = self._words(indices, themes)
        names = FIRST_NAME + counter.distinct(self._key(indices, _NAMES), count, NAMES)
        before = self._draw(indices, _ASKED, count, config.segment_length - 1)
        before = before[:, :, None]
        detail = (indices % len(QUESTIONS) == DETAIL)[:, None]
        given = np.take_along_axis(words, before, axis=2)[:, :, 0]
        after = np.take_along_axis(words, before + 1, axis=2)[:, :, 0]
        order = counter.distinct(self._key(indices, _ORDER), count, count)
        subjects, targets = (
            np.take_along_axis(np.where(detail, of_detail, of_gist), order, axis=1)
            for of_detail, of_gist in ((given, names), (after, FIRST_THEME + themes))
        )
        stream = np.concatenate([names[:, :, None], words], axis=2)
        kind = np.repeat(np.where(detail, DETAIL, GIST), count, axis=1)
        asked = np.stack([kind, subjects], axis=2)
        context = config.context_length
        tokens = [stream.reshape(rows, context), asked.reshape(rows, 2 * count)]
        positions = np.arange(context + 1, config.length, 2, dtype=np.int32)
        return Batch(
            tokens=np.concatenate(tokens, axis=1).astype(np.int32),
            targets=targets.astype(np.int32),
            target_positions=np.tile(positions, (rows, 1)),
            target_weights=np.ones((rows, count), np.float32),
            context=np.full(rows, context, np.int32),
        )

    def setting(self, index: int) -> Setting:
        """Return the setting of row `index`."""
        return self.config.kinds[index % len(QUESTIONS)]

    def _words(
        self, indices: Int64[np.ndarray, "b"], themes: Int64[np.ndarray, "b n"]
    ) -> Int64[np.ndarray, "b n words"]:
        """Return the words of every segment; none occurs twice in a row."""
        config = self.config
        rows, count = themes.shape
        size = config.segment_length
        # The places with the smallest random numbers have the segment's theme.
        race = counter.bits(self._key(indices, _PLACES), count * size)
        order = np.argsort(race.reshape(rows, count, size), axis=2, kind="stable")
        rank = np.argsort(order, axis=2, kind="stable")
        shift = 1 + self._draw(indices, _OTHERS, count * size, config.num_themes - 1)
        shift = np.where(rank < config.majority, 0, shift.reshape(rows, count, size))
        theme = (themes[:, :, None] + shift) % config.num_themes
        theme = theme.reshape(rows, count * size)
        words = np.empty_like(theme)
        most = count * config.majority
        for number in range(config.num_themes):
            key = self._key(indices, _WORDS, number)
            drawn = counter.distinct(key, most, config.words_per_theme)
            there = theme == number
            # Word number j of a theme in the row is its j-th drawn word.
            nth = np.maximum(np.cumsum(there, axis=1) - 1, 0)
            first = config.first_word + number * config.words_per_theme
            words = np.where(there, first + np.take_along_axis(drawn, nth, 1), words)
        return words.reshape(rows, count, size)

    def _draw(
        self, indices: Int64[np.ndarray, "b"], stream: int, count: int, size: int
    ) -> Int64[np.ndarray, "b {count}"]:
        """Draw integers in `[0, size)` independently."""
        words = counter.bits(self._key(indices, stream), count)
        return counter.bounded(words, size)

    def _key(self, indices: Int64[np.ndarray, "b"], *stream: int) -> np.ndarray:
        return counter.key(self.config.seed, self._split, *stream, index=indices)


def solve(
    tokens: Int32[np.ndarray, "b t"], config: GistAndDetailConfig
) -> Int32[np.ndarray, "b n"]:
    """Return the answers of a perfect memory that knows the theme of every word.

    Raises:
        InputError: a row asks about a segment or a word that it does not show.
    """
    count, end = config.num_segments, config.context_length
    answers = np.empty((len(tokens), count), np.int32)
    for number, row in enumerate(tokens.tolist()):
        shown = row[:end]
        for question in range(count):
            kind, subject = row[end + 2 * question : end + 2 * question + 2]
            if subject not in shown[:-1]:
                raise InputError(
                    f"row {number} asks about token {subject}, after which it shows "
                    "nothing; give rows of this task"
                )
            at = shown.index(subject)
            if kind == DETAIL:
                answers[number, question] = shown[at + 1]
                continue
            words = np.array(shown[at + 1 : at + 1 + config.segment_length])
            themes = (words - config.first_word) // config.words_per_theme
            answers[number, question] = FIRST_THEME + np.bincount(themes).argmax()
    return answers
