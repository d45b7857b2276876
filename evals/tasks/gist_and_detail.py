"""Gist and detail in `memzoo recall`: read with more segments."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ...configs.experiment import ExperimentConfig
from ...data.gist_and_detail import QUESTIONS, GistAndDetailConfig
from ...data.task import with_task_fields
from ..recall_task import (
    Described,
    Reading,
    RecallTask,
    Training,
    layers_finding,
)
from ..summary import Cell
from ..tuple_flags import Integers, check_counts, check_tuple

if TYPE_CHECKING:
    from ..recall_config import RecallConfig


@dataclass(frozen=True, kw_only=True)
class GistAndDetailRecall(RecallTask):
    """Themes of segments and exact words in them, read with more segments."""

    title: ClassVar[str] = "Gist and detail, compared"
    notes: ClassVar[tuple[str, ...]] = (
        "One model is trained on both kinds of questions in turn, over the same stream "
        "of segments. A gist is the theme of most words of a segment; a detail is the "
        "word that came after a given one.",
        "Every layer is in the same model: same width and depth, the same short "
        "convolution on queries, keys and values, no MLP.",
        "Accuracy is the share of questions answered correctly. The learning rate of a "
        "layer is the best one in training, chosen on other rows (validation) than "
        "those read later (test). Training ends early when the mean of both kinds "
        "reaches the goal.",
        "Chance is guessing any theme, or any word of the row that comes after "
        "another. Naming the theme of one word of a segment is right as often as the "
        "majority is long.",
        "State counts the arrays carried from token to token, for one sequence and the "
        "whole model. The state of attention grows with the length.",
    )

    num_segments: int = 4
    """Segments in a training row."""
    segment_length: int = 8
    """Words in a segment."""
    majority: int = 5
    """Words of a segment that have its theme."""
    num_themes: int = 4
    """Number of themes."""
    words_per_theme: int = 40
    """Words of each theme."""
    read_segments: Integers = (4, 8)
    """Segments in the rows read after training."""
    segment_examples: int = 256
    """Rows read after training for each number of segments."""

    def __post_init__(self) -> None:
        check_tuple("read_segments", self.read_segments)
        check_counts(self, ("segment_examples",))
        for count in (self.num_segments, *self.read_segments):
            self._rows(count)

    def _rows(self, count: int) -> GistAndDetailConfig:
        return GistAndDetailConfig(
            num_segments=count,
            segment_length=self.segment_length,
            majority=self.majority,
            num_themes=self.num_themes,
            words_per_theme=self.words_per_theme,
        )

    def trainings(self) -> Sequence[Training]:
        """Return the single training, on both kinds of questions."""
        return [Training(task=self._rows(self.num_segments))]

    def readings(
        self, experiment: ExperimentConfig, config: "RecallConfig"
    ) -> Sequence[Reading]:
        """Return rows of every number of segments, with both kinds of questions."""
        return [
            Reading(
                with_task_fields(experiment.task, num_segments=count),
                self.segment_examples,
            )
            for count in self.read_segments
        ]

    def described(self, config: "RecallConfig") -> Described:
        """Return segments and themes in words."""
        counts = " and ".join(map(str, self.read_segments))
        return Described(
            f"trained on {self.num_segments} segments of {self.segment_length} words, "
            f"{self.majority} of them from one of {self.num_themes} themes",
            [f"Read with {counts} segments, {self.segment_examples} test rows each."],
        )

    def finding(self, cells: Sequence[Cell]) -> str:
        """Return the result of each kind of question, in a sentence each."""
        kinds = [
            [cell for cell in cells if cell.of("question") == question]
            for question in QUESTIONS
        ]
        return " ".join(
            layers_finding("Accuracy at {}", kind) for kind in kinds if kind
        )
