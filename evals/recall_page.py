"""What the page of a sweep says, by task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .ablations import said_of
from .figures import Curve
from .needle_report import needle_finding, needle_sections
from .orders import orders_finding, orders_sections
from .page import Section
from .readings import gain_sections, rows_of_training
from .recall_config import RecallConfig
from .report import CurveKey, recall_finding, recall_sections, series_numbers
from .results import ResultRow
from .routing_report import routing_sections
from .summary import summarise


@dataclass(frozen=True, kw_only=True)
class Page:
    """The page of a sweep, but for how it was made."""

    title: str
    finding: str
    sections: list[Section]


def recall_page(
    config: RecallConfig,
    rows: Sequence[ResultRow],
    curves: Mapping[CurveKey, Sequence[Curve]],
) -> Page:
    """The page of what a sweep has found so far."""
    if config.task == "needle":
        trained = config.trained_length
        return Page(
            title="Needles, compared",
            finding=needle_finding(rows, trained),
            sections=needle_sections(
                rows,
                curves,
                trained=trained,
                steps=config.steps,
                goal=config.stop_at,
            ),
        )
    if config.task == "set_disjointness":
        return Page(
            title="Two sets in both orders, compared",
            finding=orders_finding(rows),
            sections=orders_sections(
                rows, curves, trained=config.sizes, steps=config.steps
            ),
        )
    own = rows_of_training(rows)
    first, *others = recall_sections(
        own, curves, steps=config.steps, goal=config.stop_at
    )
    return Page(
        title="Recall, compared",
        finding=recall_finding(own),
        sections=[
            first,
            *gain_sections(rows),
            *routing_sections(own, series_numbers(summarise(own))),
            *others,
        ],
    )


def details(config: RecallConfig) -> list[str]:
    """What was trained, in sentences."""
    length = config.trained_length
    each = config.tokens_per_pair
    tokens = f"{length} tokens" if each is None else f"{each} tokens a pair"
    task = f"sequences of {tokens} with blank filler"
    trained_on = _TRAINED_ON[config.mixture]
    if config.task == "needle":
        task = f"trained on sequences of {length} tokens, the needle at any place"
        trained_on = (
            f"Read at {_listed(config.lengths)} tokens on {config.length_examples} "
            f"test sequences each, needles at depths {_listed(config.depths)} in turn."
        )
    if config.task == "set_disjointness":
        trained = ", ".join(f"{first} and {second}" for first, second in config.sizes)
        task = f"trained on sets of {trained} tokens in turn"
        trained_on = (
            f"Read on {config.size_examples} test sequences of each size; all of them "
            "of one length, so that nothing is padded."
        )
    reading = []
    what = "question and all" if config.repeat_question else "the context alone again"
    if config.repeat_context != (1,):
        times = _listed(config.repeat_context)
        reading = [
            f"Sequences are read {times} times before they are answered, {what}."
        ]
    if config.read_again:
        times = _listed(config.read_again)
        reading = [
            f"After training they are read {times} times too, {what}, on test rows."
        ]
    keys = "" if config.head_size is None else f" with keys of {config.head_size}"
    if config.prefix:
        reading += ["Layers that accept a prefix read what is given non-causally."]
    return [
        f"{config.depth} blocks, {config.num_heads} head(s){keys}, vocabulary "
        f"{config.task_vocab_size}, {task}.",
        *reading,
        *([] if config.ablate is None else [said_of(config.ablate)]),
        f"At most {config.steps} optimizer steps of {config.batch_size} sequences; "
        f"evaluated every {config.evaluate_every} steps on "
        f"{config.evaluation_examples} sequences; training ends at an accuracy of "
        f"{config.stop_at:g}.",
        "AdamW with weight decay 0.1 on projections and embeddings; 50 steps of "
        "warm-up, then half a cosine.",
        f"Learning rates: {_listed(config.learning_rates)}. Seeds: "
        f"{_listed(config.seeds)}. {trained_on}",
    ]


_TRAINED_ON = {
    False: "A model is trained for each number of pairs.",
    True: "One model is trained on all numbers of pairs, a sequence of each in turn.",
}


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
