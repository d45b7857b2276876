"""A task of `memzoo recall`: what it trains, reads after training, and shows.

Each task is one file in `evals/tasks`. One from outside is a subclass of `RecallTask`,
or the config of a task alone, for which the defaults here do the rest.
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
    """Rows that a training sees.

    Attributes:
        task: config of the task; a sweep replaces its seed, where it has one.
        folder: beginning of the name of the training's folder, such as `pairs-4`.
        label: the same in words: "4 pairs".
    """

    task: Any
    folder: str = ""
    label: str = ""


class Reading(NamedTuple):
    """Test rows that a trained model is given, without further training."""

    task: Any
    examples: int


Probe = Callable[[LanguageModel], list[Row]]
"""Returns rows about a trained model that are no accuracy."""


class Described(NamedTuple):
    """Sentences of a page about a task.

    Attributes:
        rows: what was trained on, to follow "2 blocks, 1 head(s), vocabulary 128, ".
        sentences: what else there is to say.
    """

    rows: str
    sentences: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Numbers that a sweep has measured so far.

    Attributes:
        rows: as in results.json; those of readings have a `split` in their setting.
        curves: the course of every training, by layer and setting.
        steps: most steps of a training.
        goal: accuracy at which a training ends.
    """

    rows: Sequence[ResultRow]
    curves: Mapping[CurveKey, Sequence[Curve]]
    steps: int
    goal: float

    @property
    def trained(self) -> list[ResultRow]:
        """Rows that were measured while models were trained."""
        return trained_rows(self.rows)


class Findings(NamedTuple):
    """A page but for how it was made; a terminal shows its tables."""

    finding: str
    sections: list[Section]


class RecallTask:
    """Base class of frozen keyword-only dataclasses, one a task.

    Every field is a flag of `memzoo recall` and has a default. `trainings` is required.
    """

    title: ClassVar[str] = "Recall, compared"
    """Heading of the page."""
    axes: ClassVar[tuple[str, ...]] = ()
    """Fields along which a sweep may grow, named as in the settings of the rows; the
    others never change in it."""
    notes: ClassVar[tuple[str, ...]] = ()
    """Remarks at the end of the page."""

    def trainings(self) -> Sequence[Training]:
        """Return the rows of every training that a layer gets.

        Raises:
            InputError: the task has no such rows.
        """
        raise NotImplementedError

    def readings(
        self, experiment: ExperimentConfig, config: "RecallConfig"
    ) -> Sequence[Reading]:
        """Return what the model of an experiment is given after training.

        Args:
            experiment: one training. Its task may hold that of `trainings`:
                `change_innermost` and `with_task_fields` reach it.
            config: the sweep.

        Raises:
            InputError: the task has no such rows.
        """
        return ()

    def probes(
        self, experiment: ExperimentConfig, config: "RecallConfig"
    ) -> Sequence[Probe]:
        """Return what else is measured of the model of an experiment."""
        return ()

    def described(self, config: "RecallConfig") -> Described:
        """Return what the page says of the rows."""
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
                lead="Each layer at its best learning rate; every dot is a seed, the "
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
        """Return figures that stand before the default ones, as HTML."""
        return []

    def sections(
        self, measured: Measured, numbers: Mapping[str, int]
    ) -> Sequence[Section]:
        """Return sections that stand after the figures: accuracy on the readings."""
        later = [row for row in measured.rows if is_later(row)]
        if not later:
            return []
        names = (*self.axes, *MODEL_FIELDS)
        cells = at_rates(summarise(later), measured.trained, names)
        return [
            Section(
                title="Read after training",
                lead="Test rows that no model was trained on, each layer at the "
                "learning rate that did best in training.",
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
        what: the beginning; `{}` is replaced by the setting.
        cells: of all settings.
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
        """Return the one training that there is."""
        return [Training(task=self.task)]

    def meaning(self) -> dict[str, Any]:
        """Return the fields of the task's config."""
        fields = dataclasses.asdict(self.task).items()
        return {f"task.{name}": value for name, value in fields if name != "seed"}
