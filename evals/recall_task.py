"""A task of `memzoo recall`: what it trains, reads after training, and shows.

Each file in `evals/tasks` holds one task. A task from outside is a subclass of
`RecallTask`, or only the config of a task, which then uses the defaults here.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ..configs.experiment import ExperimentConfig
from ..models.language_model import LanguageModel
from .figures import Curve
from .number_text import percent_text
from .page import Section, grid, notes
from .reading_gains import gain_sections
from .recall import Row
from .report import (
    CurveKey,
    accuracy_figures,
    accuracy_lead,
    accuracy_tables,
    curve_sections,
    legend,
    series_numbers,
)
from .summary import (
    MODEL_FIELDS,
    Cell,
    ResultRow,
    at_rates,
    hardest,
    is_later,
    summarise,
    trained_rows,
    widest,
)

if TYPE_CHECKING:
    from .recall_config import RecallConfig


@dataclass(frozen=True, kw_only=True)
class Training:
    """Training data of one training.

    Attributes:
        task: config of the task; a sweep replaces its seed, if it has one.
        folder: prefix of the name of the training's folder, such as `pairs-4`.
        label: description of the data: "4 pairs".
    """

    task: Any
    folder: str = ""
    label: str = ""


class Reading(NamedTuple):
    """Test rows that a trained model reads, without further training."""

    task: Any
    examples: int


Probe = Callable[[LanguageModel], list[Row]]
"""Function that returns rows about a trained model that are not accuracies."""


class Described(NamedTuple):
    """Sentences of a page about a task.

    Attributes:
        rows: what was trained on, to follow "2 blocks, 1 head(s), vocabulary 128, ".
        sentences: further remarks.
    """

    rows: str
    sentences: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Numbers that a sweep has measured so far.

    Attributes:
        rows: as in results.json; rows of readings have a `split` in their setting.
        curves: learning curves of all trainings, by layer and setting.
        steps: most steps of a training.
        goal: accuracy at which a training ends.
    """

    rows: Sequence[ResultRow]
    curves: Mapping[CurveKey, Sequence[Curve]]
    steps: int
    goal: float

    @property
    def trained(self) -> list[ResultRow]:
        """Return the rows that were measured during training."""
        return trained_rows(self.rows)


class Findings(NamedTuple):
    """Content of a page except how it was made; a terminal shows its tables."""

    finding: str
    sections: list[Section]


class RecallTask:
    """Base class of recall tasks, which are frozen keyword-only dataclasses.

    Every field is a flag of `memzoo recall` and has a default. `trainings` is required.
    """

    title: ClassVar[str] = "Recall, compared"
    """Heading of the page."""
    axes: ClassVar[tuple[str, ...]] = ()
    """Fields along which a sweep can be extended, named as in the settings of the rows;
    the other fields must stay the same within a sweep."""
    notes: ClassVar[tuple[str, ...]] = ()
    """Remarks at the end of the page."""

    def trainings(self) -> Sequence[Training]:
        """Return the trainings of each layer.

        Raises:
            InputError: the task has no such rows.
        """
        raise NotImplementedError

    def readings(
        self, experiment: ExperimentConfig, config: "RecallConfig"
    ) -> Sequence[Reading]:
        """Return what the trained model of an experiment reads after training.

        Args:
            experiment: one training. Its task may wrap that of `trainings`;
                `change_innermost` and `with_task_fields` reach the inner one.
            config: the sweep.

        Raises:
            InputError: the task has no such rows.
        """
        return ()

    def probes(
        self, experiment: ExperimentConfig, config: "RecallConfig"
    ) -> Sequence[Probe]:
        """Return probes that measure the trained model of an experiment further."""
        return ()

    def described(self, config: "RecallConfig") -> Described:
        """Return the page's description of the rows."""
        lengths = dict.fromkeys(each.task.length for each in self.trainings())
        return Described(f"sequences of {' and '.join(map(str, lengths))} tokens")

    def findings(self, measured: Measured) -> Findings:
        """Return the page: the accuracy of every layer on every setting."""
        cells = summarise(measured.trained)
        numbers, top = series_numbers(cells), hardest(cells)
        figures = [
            *self.figures(cells, numbers),
            *accuracy_figures(cells, top, numbers),
        ]
        sections = [
            Section(
                title="Accuracy",
                lead=accuracy_lead(cells),
                parts=[legend(numbers), grid(figures)],
            ),
            *gain_sections(measured.rows),
            *self.sections(measured, numbers),
            Section(
                title="Every number",
                lead="Each layer at its best learning rate. Every dot is a seed; the "
                "tick marks chance.",
                parts=accuracy_tables(cells, numbers, measured.goal),
            ),
            *curve_sections(top, measured.curves, numbers, measured.steps),
        ]
        if self.notes:
            remarks = Section(title="How to read this", parts=[notes(self.notes)])
            sections.append(remarks)
        return Findings(self.finding(cells), sections)

    def figures(self, cells: Sequence[Cell], numbers: Mapping[str, int]) -> list[str]:
        """Return figures to show before the default ones, as HTML."""
        return []

    def sections(
        self, measured: Measured, numbers: Mapping[str, int]
    ) -> Sequence[Section]:
        """Return sections to show after the figures: accuracy on the readings."""
        later = [row for row in measured.rows if is_later(row)]
        if not later:
            return []
        names = (*self.axes, *MODEL_FIELDS)
        cells = at_rates(summarise(later), measured.trained, names)
        return [
            Section(
                title="Read after training",
                lead="Test rows that no model was trained on, each layer at the "
                "learning rate that was best in training.",
                parts=accuracy_tables(cells, numbers),
            )
        ]

    def finding(self, cells: Sequence[Cell]) -> str:
        """Return the result at the hardest setting, in a sentence."""
        return layers_finding("Accuracy at {}", cells)

    def meaning(self) -> dict[str, Any]:
        """Return what all trainings of a sweep share, as a JSON object."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)  # pyright: ignore[reportArgumentType]
            if field.name not in self.axes
        }


def layers_finding(what: str, cells: Sequence[Cell]) -> str:
    """Return every layer's mean at the hardest setting, in a sentence.

    Args:
        what: beginning of the sentence; `{}` is replaced by the setting.
        cells: cells of all settings.
    """
    top = sorted(widest(hardest(cells)), key=lambda cell: -cell.mean)
    said = ", ".join(f"{c.layer} {percent_text(c.mean)}" for c in top)
    chance = top[0].chance
    level = "" if chance is None else f" (chance: {percent_text(chance)})"
    return f"{what.format(top[0].text)}: {said}{level}."


@dataclass(frozen=True, kw_only=True)
class PlainRecall(RecallTask):
    """Any task, at the settings of its config."""

    task: Any
    """Config of the task."""

    def trainings(self) -> Sequence[Training]:
        """Return the single training."""
        return [Training(task=self.task)]

    def meaning(self) -> dict[str, Any]:
        """Return the fields of the task's config."""
        fields = dataclasses.asdict(self.task).items()
        return {f"task.{name}": value for name, value in fields if name != "seed"}
