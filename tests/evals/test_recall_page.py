"""What the page of a sweep says, by task."""

import dataclasses

import pytest

from memzoo.evals.recall_config import RecallConfig
from memzoo.evals.recall_page import details, recall_page

PAIRS = RecallConfig(layers=("attention",), num_pairs=(4, 16))
SETS = RecallConfig(task="set_disjointness", layers=("attention",))
NEEDLE = RecallConfig(task="needle", layers=("attention",), length=64)


def row(metric="accuracy", **setting):
    return {
        "layer": "attention",
        "setting": {"length": 64, "width": 8, **setting},
        "metric": metric,
        "value": 0.5,
        "seed": 0,
        "learning_rate": 0.1,
        "parameters": 1234,
        "state_bytes": 1024,
        "checkpoint_step": 300,
        "chance": 0.05,
    }


@pytest.mark.parametrize(
    ("config", "rows", "title", "finding", "section"),
    [
        (
            PAIRS,
            [row(num_pairs=16)],
            "Recall, compared",
            "Recall of 16 key-value pairs in 64 tokens",
            "Accuracy",
        ),
        (
            NEEDLE,
            [row(), row(depth=0.5), row("sequence_accuracy", depth=0.5)],
            "Needles, compared",
            "Trained on needles in 64 tokens",
            "Accuracy by length",
        ),
        (
            SETS,
            [
                row(first=4, second=16),
                row(first=4, second=16, split="test"),
                row(first=16, second=4, split="test"),
            ],
            "Two sets in both orders, compared",
            "Sets of 4 and 16 tokens, the small one first",
            "Both orders",
        ),
    ],
)
def test_every_task_has_its_page(config, rows, title, finding, section):
    page = recall_page(config, rows, {})
    assert page.title == title
    assert page.finding.startswith(finding)
    assert page.sections[0].title == section


def test_gains_follow_the_accuracy_where_sequences_were_read_twice():
    rows = [row(num_pairs=16), row(num_pairs=16, repeat_context=2)]
    titles = [section.title for section in recall_page(PAIRS, rows, {}).sections]
    assert titles[:2] == ["Accuracy", "Read twice"]


def test_the_details_say_what_was_trained_and_read():
    first, *_, last = details(PAIRS)
    assert "vocabulary 1024, sequences of 64 tokens with blank filler" in first
    assert last.endswith("A model is trained for each number of pairs.")
    growing = details(dataclasses.replace(PAIRS, tokens_per_pair=4))
    assert "sequences of 4 tokens a pair with blank filler" in growing[0]
    mixed = details(dataclasses.replace(PAIRS, mixture=True))
    assert "One model is trained on all numbers of pairs" in mixed[-1]
    assert "Layers that accept a prefix read what is given non-causally." in mixed
    twice = details(dataclasses.replace(PAIRS, repeat_context=(1, 2), prefix=False))
    assert twice[1] == (
        "Sequences are read 1, 2 times before they are answered, question and all."
    )
    assert not any("non-causally" in sentence for sentence in twice)
    whole = {"layers": RecallConfig.layers, "ablate": "titans_lmm"}
    ablated = details(dataclasses.replace(PAIRS, **whole))
    assert ablated[2].startswith("titans_lmm-whole has memory_depth 2")
    first, *_, last = details(SETS)
    assert "trained on sets of 1 and 2, 2 and 4" in first
    assert "Read on 512 test sequences of each size" in last
    first, *_, last = details(NEEDLE)
    assert "vocabulary 128, trained on sequences of 64 tokens" in first
    assert "Read at 256, 512" in last and "depths 0, 0.25, 0.5, 0.75, 1" in last
