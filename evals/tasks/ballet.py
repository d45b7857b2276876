"""Ballet in `memzoo recall`: read with more dancers and longer delays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ...configs.experiment import ExperimentConfig
from ...data.ballet import MOVES, Answer, BalletConfig
from ...data.task import with_task_fields
from ..recall_task import Described, Reading, RecallTask, Training
from ..tuple_flags import Integers, check_counts, check_tuple

if TYPE_CHECKING:
    from ..recall_config import RecallConfig


@dataclass(frozen=True, kw_only=True)
class BalletRecall(RecallTask):
    """Ask who danced which dance, with more dancers and longer delays than trained."""

    title: ClassVar[str] = "Ballet, compared"
    notes: ClassVar[tuple[str, ...]] = (
        "The ballet task of HCAM (arXiv 2105.14039) in token form: tokens instead of "
        "pictures, and an answer of one token instead of a walk to the dancer. Compare "
        "layers on this page with each other, not with numbers from papers.",
        "Every layer is in the same model: same width and depth, the same short "
        "convolution on queries, keys and values, no MLP.",
        "Accuracy is the share of rows answered correctly. The learning rate of a "
        "layer is the best one in training, chosen on other rows (validation) than "
        "those read later (test). Training ends early at the goal.",
        "Chance is 1 / dancers: guessing any dancer, or any dance, of the row.",
        "State counts the arrays carried from token to token, for one sequence and the "
        "whole model. The state of attention grows with the length.",
    )

    num_dancers: Integers = (4,)
    """Dancers in a training row; several numbers are trained on in turn."""
    delay: int = 16
    """Steps of standing still after every dance in training."""
    dance_length: int = MOVES
    """Moves of a dance that are shown, from its first."""
    answer: Answer = "dancer"
    """Target: the dancer, given a dance, or the dance, given a dancer."""
    read_dancers: Integers = (4, 8)
    """Dancers in the rows read after training."""
    read_delays: Integers = (16, 48)
    """Delays in the rows read after training."""
    ballet_examples: int = 256
    """Rows read after training for each number of dancers and delay."""

    def __post_init__(self) -> None:
        for name in ("num_dancers", "read_dancers", "read_delays"):
            check_tuple(name, getattr(self, name))
        check_counts(self, ("ballet_examples",))
        for delay in self.read_delays:
            with_task_fields(self._rows(), num_dancers=self.read_dancers, delay=delay)

    def _rows(self) -> BalletConfig:
        return BalletConfig(
            num_dancers=self.num_dancers,
            delay=self.delay,
            dance_length=self.dance_length,
            answer=self.answer,
        )

    def trainings(self) -> Sequence[Training]:
        """Return the single training, on all numbers of dancers in turn."""
        return [Training(task=self._rows())]

    def readings(
        self, experiment: ExperimentConfig, config: "RecallConfig"
    ) -> Sequence[Reading]:
        """Return rows of every number of dancers and delay, each of one length."""
        return [
            Reading(
                with_task_fields(experiment.task, num_dancers=dancers, delay=delay),
                self.ballet_examples,
            )
            for delay in self.read_delays
            for dancers in self.read_dancers
        ]

    def described(self, config: "RecallConfig") -> Described:
        """Return dancers, delays and dances in words."""
        trained, dancers, delays = (
            " and ".join(map(str, numbers))
            for numbers in (self.num_dancers, self.read_dancers, self.read_delays)
        )
        return Described(
            f"trained on {trained} dancers with delay {self.delay} and dances of "
            f"{self.dance_length} moves",
            [
                f"Read with {dancers} dancers and delays of {delays}, on "
                f"{self.ballet_examples} test rows each."
            ],
        )
