"""Needle in a haystack in `memzoo recall`: read far beyond the trained length."""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from matplotlib.axes import Axes

from ...configs.experiment import ExperimentConfig
from ...data.needle import DEPTHS, NeedleConfig
from ...data.task import with_task_fields
from ..drawing import draw_figure, ticks
from ..figures import accuracy_by_setting, share_fields
from ..number_text import byte_text, length_text, percent_text
from ..page import Section, figure, grid, notes
from ..recall_task import (
    Described,
    Findings,
    Measured,
    Reading,
    RecallTask,
    Training,
)
from ..report import (
    count_cell,
    curve_sections,
    legend,
    series_numbers,
    steps_cell,
)
from ..summary import (
    MODEL_FIELDS,
    Cell,
    ResultRow,
    at_rates,
    averaged,
    is_later,
    summarise,
    trained_rows,
    widest,
)
from ..table import LAYER, Name, Table, column
from ..tuple_flags import Floats, Integers, check_counts, check_tuple

if TYPE_CHECKING:
    from ..recall_config import RecallConfig


@dataclass(frozen=True, kw_only=True)
class NeedleRecall(RecallTask):
    """One long value hidden in noise, read at lengths other than the trained one."""

    title: ClassVar[str] = "Needles, compared"
    notes: ClassVar[tuple[str, ...]] = (
        "niah-tok: RULER's passkey (arXiv 2404.06654) in token form, small enough to "
        "train from scratch. Compare layers on this page with each other, not with "
        "RULER or with numbers from papers.",
        "Every layer is in the same model: same width and depth, the same short "
        "convolution on queries, keys and values, no MLP. It is trained at one length, "
        "with the needle anywhere, and read at every length without further training.",
        "Accuracy is the share of the value's tokens predicted correctly, each given "
        "the true tokens before it. The whole value is right if all of them are, which "
        "is what greedy decoding would output.",
        "The learning rate of a layer is the best one at the trained length, chosen on "
        "other rows (validation) than those shown (test). Training ends early at the "
        "goal.",
        "Chance is guessing any value token.",
        "State counts the arrays carried from token to token, for one sequence and the "
        "whole model. The state of attention grows with the length.",
    )

    length: int = 256
    """Tokens in a training sequence."""
    lengths: Integers = (256, 512, 1024, 2048, 4096, 8192, 16384)
    """Tokens in the sequences read after training."""
    depths: Floats = DEPTHS
    """Positions of the needle after training, as shares of the noise before it."""
    length_examples: int = 100
    """Sequences read after training at each length."""
    vocab_size: int = 128
    """Number of tokens."""
    num_needles: int | None = None
    """Number of needles in a sequence; one of them is asked for. None: one."""

    def __post_init__(self) -> None:
        for name in ("lengths", "depths"):
            check_tuple(name, getattr(self, name))
        check_counts(self, ("length_examples",))
        for length in self.lengths:
            dataclasses.replace(self._rows(), length=length, depth=self.depths)

    def _rows(self) -> NeedleConfig:
        return NeedleConfig(
            length=self.length,
            vocab_size=self.vocab_size,
            num_needles=self.num_needles,
        )

    def trainings(self) -> Sequence[Training]:
        """Return the single training, with the needle at any position."""
        return [Training(task=self._rows())]

    def readings(
        self, experiment: ExperimentConfig, config: "RecallConfig"
    ) -> Sequence[Reading]:
        """Return rows of every length, with the needle at every depth in turn."""
        return [
            Reading(
                with_task_fields(experiment.task, length=length, depth=self.depths),
                self.length_examples,
            )
            for length in self.lengths
        ]

    def described(self, config: "RecallConfig") -> Described:
        """Return the lengths and depths in words."""
        lengths, depths = (
            ", ".join(f"{value:g}" for value in values)
            for values in (self.lengths, self.depths)
        )
        one = "the needle anywhere"
        if self.num_needles is not None:
            one = f"{self.num_needles} needles anywhere, one of them asked for"
        return Described(
            f"trained on sequences of {self.length} tokens, {one}",
            [
                f"Read at {lengths} tokens on {self.length_examples} test sequences "
                f"each, needles at depths {depths} in turn."
            ],
        )

    def findings(self, measured: Measured) -> Findings:
        """Return accuracy by length and by depth."""
        rows = measured.rows
        cells = widest(by_length(rows))
        numbers = series_numbers(cells)
        chosen = summarise(measured.trained)
        return Findings(
            _finding(rows, self.length),
            [
                Section(
                    title="Accuracy by length",
                    lead="Each layer at its best learning rate. Lines are means over "
                    "seeds and depths; small dots are single seeds.",
                    parts=[
                        legend(numbers),
                        grid(_length_figures(rows, numbers, self.length)),
                    ],
                ),
                Section(
                    title="Accuracy by depth",
                    lead="Percent of value tokens right, by the share of the noise "
                    "before the needle.",
                    parts=[grid(_depth_figures(rows, numbers), "small")],
                ),
                Section(
                    title="Every number",
                    lead="Share of value tokens right, mean over seeds and depths.",
                    parts=_tables(rows, chosen, self.length, measured.goal),
                ),
                *curve_sections(chosen, measured.curves, numbers, measured.steps),
                Section(title="How to read this", parts=[notes(self.notes)]),
            ],
        )


def by_length(rows: Sequence[ResultRow], metric: str = "accuracy") -> list[Cell]:
    """Return one cell per layer and length: the mean over depths, a value per seed.

    The learning rate is the best one at the trained length.
    """
    means = averaged(filter(is_later, rows), ("length", *MODEL_FIELDS))
    return at_rates(summarise(means, metric), trained_rows(rows), MODEL_FIELDS)


def by_depth(rows: Sequence[ResultRow]) -> list[Cell]:
    """Return one cell per layer, length and depth, at the rates of `by_length`."""
    later = summarise(filter(is_later, rows))
    return at_rates(later, trained_rows(rows), MODEL_FIELDS)


def _finding(rows: Sequence[ResultRow], trained: int) -> str:
    """Return the accuracy at the trained and at the longest length, in a sentence."""
    cells = widest(by_length(rows))
    longest = max(cell.of("length") for cell in cells)
    parts = []
    for length in dict.fromkeys((trained, longest)):
        there = [cell for cell in cells if cell.of("length") == length]
        there.sort(key=lambda cell: -cell.mean)
        said = ", ".join(f"{c.layer} {percent_text(c.mean)}" for c in there)
        if said:
            parts.append(f"in {length:,} tokens {said}")
    return (
        f"Trained on needles in {trained:,} tokens, share of value tokens found: "
        f"{'; '.join(parts)} (chance: {percent_text(cells[0].chance or 0.0)})."
    )


def _length_figures(
    rows: Sequence[ResultRow], numbers: Mapping[str, int], trained: int
) -> list[str]:
    whole = [
        dataclasses.replace(cell, chance=None)
        for cell in widest(by_length(rows, "sequence_accuracy"))
    ]
    return [
        figure(
            accuracy_by_setting(
                cells,
                numbers,
                "length",
                name=name,
                title="Accuracy against the length",
                axis="tokens read (log scale)",
                label=label,
                tick=length_text,
                trained=trained,
            ),
            title,
            caption,
        )
        for cells, name, label, title, caption in (
            (
                widest(by_length(rows)),
                "length",
                "share of value tokens right",
                "How far does it remember?",
                "Accuracy against the length of the sequence.",
            ),
            (
                whole,
                "whole",
                "share of whole values right",
                "Is the whole value right?",
                "Share of sequences with every token of the value right.",
            ),
        )
    ]


def _depth_figures(rows: Sequence[ResultRow], numbers: Mapping[str, int]) -> list[str]:
    cells = widest(by_depth(rows))
    figures = []
    for layer in dict.fromkeys(cell.layer for cell in cells):
        own = [cell for cell in cells if cell.layer == layer]
        means: dict[tuple[int, float], list[float]] = {}
        for cell in own:
            place = cell.of("length"), cell.of("depth")
            means.setdefault(place, []).append(cell.mean)
        drawn = depth_map(
            {place: statistics.fmean(each) for place, each in means.items()},
            layer,
            numbers[layer],
        )
        caption = f"best learning rate {own[0].learning_rate:g}"
        figures.append(figure(drawn, layer, caption))
    return figures


def depth_map(
    values: Mapping[tuple[int, float], float], layer: str, number: int
) -> str:
    """Draw a square for every length and depth, darker for higher accuracy.

    Args:
        values: a share for every (length, depth).
        layer: layer of the values.
        number: number of its series.
    """
    lengths = sorted({length for length, _ in values})
    depths = sorted({depth for _, depth in values})
    shares = [[values.get((n, d)) for n in lengths] for d in depths]

    def draw(axes: Axes) -> None:
        share_fields(axes, shares, number)
        ticks(axes, range(len(lengths)), [length_text(n) for n in lengths])
        axes.set_yticks(range(len(depths)), [f"{100 * d:.0f}%" for d in depths])
        axes.set_xlabel("tokens read")
        axes.set_ylabel("noise before the needle")

    title = f"Accuracy of {layer} by depth"
    return draw_figure(draw, f"depth{number}", title, width=3.6, height=2.3)


def _tables(
    rows: Sequence[ResultRow], chosen: Iterable[Cell], trained: int, goal: float
) -> list[Table]:
    """Return one table per width and number of readings, with a column for every
    length."""
    cells = by_length(rows)
    numbers = series_numbers(cells)
    lengths = sorted({cell.of("length") for cell in cells})
    columns = (
        LAYER,
        column("parameters", None),
        column(f"state at {length_text(trained)}", None),
        column(f"state at {length_text(lengths[-1])}", None),
        column("best learning rate", "rate"),
        column(f"seeds at {goal:g}", None),
        column(f"steps to {goal:g}", None),
        *(column(length_text(length)) for length in lengths),
    )
    found = {
        (cell.layer, cell.of("width"), cell.of("repeat_context"), cell.of("length")): (
            cell
        )
        for cell in cells
    }
    groups: dict[str, list[Sequence]] = {}
    for cell in chosen:
        model = cell.layer, cell.of("width"), cell.of("repeat_context")
        there = [found.get((*model, length)) for length in lengths]
        times = "" if model[2] is None else f", read {model[2]} times"
        title = f"Share of value tokens right, by tokens read, width {model[1]}{times}"
        last = there[-1]
        groups.setdefault(title, []).append(
            (
                Name(cell.layer, numbers[cell.layer]),
                count_cell(cell.parameters),
                byte_text(cell.state_bytes),
                "-" if last is None else byte_text(last.state_bytes),
                f"{cell.learning_rate:g}",
                f"{len(cell.reached)} of {len(cell.best)}",
                steps_cell(cell),
                *("-" if each is None else f"{each.mean:.3f}" for each in there),
            )
        )
    return [
        Table(title=title, columns=columns, rows=group)
        for title, group in groups.items()
    ]
