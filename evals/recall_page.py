"""Sentences of a page about how a sweep was made."""

from collections.abc import Sequence

from .compared_layers import ablation_text
from .recall_config import RecallConfig


def details(config: RecallConfig) -> list[str]:
    """Return sentences on what was trained."""
    described = config.task.described(config)
    vocabulary = max(each.task.vocab_size for each in config.task.trainings())
    reading = []
    if config.repeat_context != (1,):
        reading.append(
            f"Sequences are read {_listed(config.repeat_context)} times before they "
            f"are answered, {config.read_again_text}."
        )
    if config.prefix:
        reading.append("Layers that accept a prefix read the context non-causally.")
    keys = "" if config.head_size is None else f" with keys of {config.head_size}"
    return [
        f"{config.depth} blocks, {config.num_heads} head(s){keys}, vocabulary "
        f"{vocabulary}, {described.rows}.",
        *reading,
        *([] if config.ablate is None else [ablation_text(config.ablate)]),
        f"At most {config.steps} optimizer steps of {config.batch_size} sequences. "
        f"Evaluated every {config.evaluate_every} steps on "
        f"{config.evaluation_examples} sequences. Training ends at an accuracy of "
        f"{config.stop_at:g}.",
        "AdamW with weight decay 0.1 on projections and embeddings; 50 steps of "
        "warm-up, then half a cosine.",
        " ".join(
            [
                f"Learning rates: {_listed(config.learning_rates)}. Seeds: "
                f"{_listed(config.seeds)}.",
                *described.sentences,
            ]
        ),
    ]


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
