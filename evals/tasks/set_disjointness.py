"""Set disjointness in `memzoo recall`: does it matter which set is read first?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ...configs.experiment import ExperimentConfig
from ...data.set_disjointness import SetDisjointnessConfig
from ...data.task import with_task_fields
from ..number_text import byte_text, percent_text
from ..page import Section, notes
from ..recall_task import (
    Described,
    Findings,
    Measured,
    Reading,
    RecallTask,
    Training,
)
from ..report import curve_sections, legend, range_cell, series_numbers
from ..summary import (
    MODEL_FIELDS,
    Cell,
    ResultRow,
    at_rates,
    is_later,
    summarise,
    trained_rows,
    widest,
)
from ..table import LAYER, Column, Name, Table, column
from ..tuple_flags import Sizes, check_counts, check_tuple

if TYPE_CHECKING:
    from ..recall_config import RecallConfig


@dataclass(frozen=True, kw_only=True)
class SetDisjointnessRecall(RecallTask):
    """The one token that two sets share, read in both orders and at other sizes."""

    title: ClassVar[str] = "Two sets in both orders, compared"
    notes: ClassVar[tuple[str, ...]] = (
        "Two sets share one token, which the model names: the task by which arXiv "
        "2407.05483 shows that a memory of constant size depends on the order of its "
        "input. Read once and causally, the memory must hold the first set, whatever "
        "its size. Read twice, or non-causally, holding the smaller set is enough.",
        "Rows of a layer and of its variant -causal have the same parameters and the "
        "same state: the layer reads the sets non-causally, the variant causally.",
        "Accuracy is the share of rows answered correctly, on test rows. No model was "
        "trained on them and no learning rate was chosen by them. The learning rate is "
        "the best one at the trained sizes, on other rows (validation).",
        "Chance is guessing any token of the smaller set.",
        "State counts the arrays carried from token to token, for one sequence and the "
        "whole model. The state of attention grows with the length.",
    )

    sizes: Sizes = ((1, 2), (2, 4), (4, 2), (4, 16), (16, 4))
    """Tokens of the first and the second set in training rows, in turn."""
    read_sizes: Sizes = ((4, 16), (16, 4), (4, 64), (64, 4), (4, 256), (256, 4))
    """Sizes read after training."""
    size_examples: int = 512
    """Sequences read after training at each size."""
    vocab_size: int = 1024
    """Number of tokens."""

    def __post_init__(self) -> None:
        for name in ("sizes", "read_sizes"):
            check_tuple(name, getattr(self, name))
        check_counts(self, ("size_examples",))
        for sizes in (self.sizes, self.read_sizes):
            SetDisjointnessConfig(sizes=sizes, vocab_size=self.vocab_size)

    def trainings(self) -> Sequence[Training]:
        """Return the single training, on all sizes in turn."""
        task = SetDisjointnessConfig(sizes=self.sizes, vocab_size=self.vocab_size)
        return [Training(task=task)]

    def readings(
        self, experiment: ExperimentConfig, config: "RecallConfig"
    ) -> Sequence[Reading]:
        """Return rows of every size; the rows of a size have one length, so no
        padding.
        """
        return [
            Reading(
                with_task_fields(experiment.task, sizes=(size,)), self.size_examples
            )
            for size in self.read_sizes
        ]

    def described(self, config: "RecallConfig") -> Described:
        """Return the sizes in words."""
        trained = ", ".join(f"{first} and {second}" for first, second in self.sizes)
        return Described(
            f"trained on sets of {trained} tokens in turn",
            [
                f"Read on {self.size_examples} test sequences of each size, all of one "
                "length, so that nothing is padded."
            ],
        )

    def findings(self, measured: Measured) -> Findings:
        """Return accuracy in both orders, one table per pair of sizes."""
        found = orders(measured.rows)
        numbers = series_numbers([order.either for order in found])
        trained = measured.trained
        longest = max(row["setting"]["length"] for row in trained)
        largest = [row for row in trained if row["setting"]["length"] == longest]
        chosen = widest(summarise(largest))
        return Findings(
            _finding(found),
            [
                Section(
                    title="Both orders",
                    lead="Share of rows answered correctly, each layer at its best "
                    "learning rate. The difference is the mean with the small set "
                    "first minus the mean with the large set first.",
                    parts=[
                        legend(numbers),
                        *_tables(found, numbers, set(self.sizes)),
                    ],
                ),
                *curve_sections(chosen, measured.curves, numbers, measured.steps),
                Section(title="How to read this", parts=[notes(self.notes)]),
            ],
        )


@dataclass(frozen=True, kw_only=True)
class Orders:
    """Results of a layer on two sets, in both orders."""

    layer: str
    width: Any
    times: int
    """Readings before the answer."""
    small: int
    large: int
    small_first: Cell | None
    large_first: Cell | None

    @property
    def difference(self) -> float | None:
        """Return the mean accuracy with the small set first minus that with the large
        first."""
        if self.small_first is None or self.large_first is None:
            return None
        return self.small_first.mean - self.large_first.mean

    @property
    def either(self) -> Cell:
        """Return the cell of an order that was read."""
        cell = self.small_first or self.large_first
        assert cell is not None
        return cell

    @property
    def name(self) -> str:
        """Return the layer's name, and how often it reads if more than once."""
        return self.layer if self.times == 1 else f"{self.layer}, {self.times} times"


def orders(rows: Sequence[ResultRow]) -> list[Orders]:
    """Return the results of every layer on every pair of sizes read after training.

    Args:
        rows: as in results.json.
    """
    later = summarise(filter(is_later, rows))
    places: dict[tuple[Any, ...], dict[str, Cell]] = {}
    for cell in at_rates(later, trained_rows(rows), MODEL_FIELDS):
        first, second = cell.of("first"), cell.of("second")
        model = cell.layer, cell.of("repeat_context") or 1, cell.of("width")
        place = places.setdefault((*model, *sorted((first, second))), {})
        place["small_first" if first <= second else "large_first"] = cell
    return [
        Orders(
            layer=layer,
            times=times,
            width=width,
            small=small,
            large=large,
            small_first=found.get("small_first"),
            large_first=found.get("large_first"),
        )
        for (layer, times, width, small, large), found in places.items()
    ]


def _finding(found: Sequence[Orders]) -> str:
    """Return the result at the most unequal sets that were read in both orders."""
    both = [o for o in found if o.difference is not None]
    if not both:
        return "No sets were read in both orders."
    top = max((o.large / o.small, o.large, o.width or 0) for o in both)
    hardest = [o for o in both if (o.large / o.small, o.large, o.width or 0) == top]
    said = "; ".join(
        f"{o.name} {percent_text(o.small_first.mean)} and "
        f"{percent_text(o.large_first.mean)}"
        for o in hardest
        if o.small_first is not None and o.large_first is not None
    )
    small, large = hardest[0].small, hardest[0].large
    return (
        f"Sets of {small} and {large} tokens, with the small one first and with the "
        f"large one first: {said} (chance: {percent_text(1 / small)})."
    )


def _tables(
    found: Sequence[Orders], numbers: Mapping[str, int], trained: set[tuple[int, int]]
) -> list[Table]:
    """Return one table per pair of sizes."""
    columns = (
        LAYER,
        Column(heading="read", short="read", words=True),
        column("width"),
        column("state"),
        column("small first", "small\nfirst"),
        column("lowest to highest", None),
        column("large first", "large\nfirst"),
        column("lowest to highest", None),
        column("difference"),
    )
    tables = []
    for small, large in dict.fromkeys((o.small, o.large) for o in found):
        seen = trained & {(small, large), (large, small)}
        title = f"Sets of {small} and {large}{'' if seen else ', not trained on'}"
        rows = [
            (
                Name(o.layer, numbers[o.layer]),
                "once" if o.times == 1 else f"{o.times} times",
                f"{o.width}",
                byte_text(o.either.state_bytes),
                *_numbers(o.small_first),
                *_numbers(o.large_first),
                "-" if o.difference is None else f"{o.difference:+.3f}",
            )
            for o in found
            if (o.small, o.large) == (small, large)
        ]
        title = f"{title}, chance {1 / small:.3f}"
        tables.append(Table(title=title, columns=columns, rows=rows))
    return tables


def _numbers(cell: Cell | None):
    return ("-", "") if cell is None else (f"{cell.mean:.3f}", range_cell(cell))
