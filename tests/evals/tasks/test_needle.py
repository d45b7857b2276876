"""Needles in a comparison: what is trained, read and shown."""

import re
from pathlib import Path

import pytest

from memzoo.data.needle import NeedleConfig
from memzoo.evals.figures import Curve
from memzoo.evals.recall_config import RecallConfig
from memzoo.evals.recall_task import Measured
from memzoo.evals.report import curve_key
from memzoo.evals.tasks.needle import NeedleRecall, by_depth, by_length, depth_map

LENGTHS = (64, 128, 4096)


def row(layer, rate, seed, value, metric="accuracy", **setting):
    return {
        "layer": layer,
        "task": "needle",
        "setting": {"length": 64, "width": 8, **setting},
        "metric": metric,
        "value": value,
        "seed": seed,
        "learning_rate": rate,
        "parameters": 1234,
        "state_bytes": setting.get("length", 64) * 16,
        "checkpoint_step": 300,
        "chance": 0.05 if metric == "accuracy" else None,
    }


def rows_of(layer, rate, seed, own, beyond):
    rows = [
        row(layer, rate, seed, own),
        row(layer, rate, seed, 200, "steps_to_0.99"),
    ]
    for length in LENGTHS:
        for depth in (0.0, 1.0):
            there = {"length": length, "depth": depth, "split": "test"}
            value = (own if length == 64 else beyond) - depth / 5
            rows.append(row(layer, rate, seed, value, **there))
            half = value / 2
            rows.append(row(layer, rate, seed, half, "sequence_accuracy", **there))
    return rows


# Rate 0.1 is better at the trained length, 0.2 beyond it.
ROWS = [
    each
    for layer in ("attention", "delta_net")
    for rate, own, beyond in ((0.1, 1.0, 0.4), (0.2, 0.9, 0.8))
    for seed in (0, 1)
    for each in rows_of(layer, rate, seed, own, beyond)
]


def test_lengths_are_means_over_depths_at_the_rate_of_the_trained_length():
    cells = by_length(ROWS)
    assert [c.of("length") for c in cells if c.layer == "attention"] == list(LENGTHS)
    assert {cell.learning_rate for cell in cells} == {0.1}
    assert [round(c.mean, 6) for c in cells[:3]] == [0.9, 0.3, 0.3]
    assert [len(cell.values) for cell in cells] == [2] * 6
    assert cells[2].state_bytes == 4096 * 16
    whole = by_length(ROWS, "sequence_accuracy")
    assert whole[0].mean == pytest.approx(0.45)


def test_depths_are_shown_at_the_same_rate():
    cells = by_depth(ROWS)
    assert {cell.learning_rate for cell in cells} == {0.1}
    assert len(cells) == 2 * len(LENGTHS) * 2


def findings(rows=ROWS, curves=None, length=64):
    measured = Measured(rows=rows, curves=curves or {}, steps=300, goal=0.99)
    return NeedleRecall(length=length).findings(measured)


def test_the_finding_says_the_trained_and_the_longest_length():
    assert findings().finding == (
        "Trained on needles in 64 tokens, share of value tokens found: in 64 tokens "
        "attention 90.0%, delta_net 90.0%; in 4,096 tokens attention 30.0%, "
        "delta_net 30.0% (chance: 5.0%)."
    )
    assert "found: in 4,096 tokens" in findings(length=21).finding


def test_the_sections_hold_figures_maps_a_table_and_remarks():
    curve = Curve(learning_rate=0.1, seed=0, steps=(100,), accuracy=(0.5,))
    key = curve_key("delta_net", {"length": 64, "width": 8})
    sections = findings(curves={key: [curve]}).sections
    assert [section.title for section in sections] == [
        "Accuracy by length",
        "Accuracy by depth",
        "Every number",
        "Learning curves",
        "How to read this",
    ]
    first, depth, numbers, curves, remarks = (section.body for section in sections)
    assert first.count("<figure>") == 2 and ">trained<" in first
    assert depth.count("<figure>") == 2
    assert sections[3].lead.startswith("64 tokens. Colour")
    for text in ("1 KiB", "64 KiB", "2 of 2", ">0.900<", ">0.300<", ">4k<"):
        assert text in numbers
    assert curves.count("<figure>") == 1
    assert "niah-tok" in remarks and "not with RULER" in remarks


def test_a_page_needs_no_curves():
    sections = findings().sections
    assert "Learning curves" not in [section.title for section in sections]


def test_several_widths_are_a_table_each():
    wide = [r | {"setting": r["setting"] | {"width": 16}} for r in ROWS]
    tables = findings(ROWS + wide).sections[2].tables
    assert [table.title for table in tables] == [
        f"Share of value tokens right, by tokens read, width {n}" for n in (8, 16)
    ]


def test_a_map_has_a_field_for_every_length_and_depth():
    values = {(256, 0.0): 0.9, (256, 1.0): 1.0, (2048, 0.0): 0.1}
    drawn = depth_map(values, "delta_net", 0)
    assert {"90", "100", "10"} <= set(re.findall(r">(\d+)<", drawn))
    assert ">2k<" in drawn and ">100%<" in drawn
    assert "noise before the needle" in drawn and "http" not in drawn


def needle(**fields):
    return RecallConfig(
        task=NeedleRecall(**fields),
        layers=("attention", "mamba2"),
        width=(8,),
        seeds=(0, 5),
    )


def test_a_needle_is_trained_at_one_length_and_read_at_many():
    config = needle(lengths=(64, 1024), depths=(0.0, 1.0))
    jobs = config.jobs()
    assert len(jobs) == len({job.place for job in jobs}) == 2 * 2 * 2
    assert config.experiment(jobs[-1]).task == NeedleConfig(seed=5)
    assert jobs[-1].label == "mamba2, width 8, learning rate 0.01, seed 5"
    assert jobs[-1].place == Path("mamba2/width-8/rate-0.01-seed-5")
    later = {"split": "test"}
    assert config.settings(jobs[0]) == [
        {"length": 256},
        {"length": 64, "depth": 0.0} | later,
        {"length": 64, "depth": 1.0} | later,
        {"length": 1024, "depth": 0.0} | later,
        {"length": 1024, "depth": 1.0} | later,
    ]
    repeated = RecallConfig(task=config.task, repeat_context=(2,), seeds=(0,))
    assert repeated.settings(repeated.jobs()[0])[1] == {
        "length": 128,
        "depth": 0.0,
        "repeat_context": 2,
        "split": "test",
    }
    assert needle(lengths=(64,)).meaning() != needle().meaning()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lengths": ()}, "lengths is empty; give at least one"),
        ({"length_examples": 0}, "length_examples is 0; give 1 or more"),
        ({"lengths": (10**20,)}, "length is 1.*; give 1000000000 or less"),
        ({"length_examples": 2**31}, "length_examples is 2.*; give a number below 2"),
        ({"lengths": (256, 9)}, "length is 9; with value_length 7 give 19"),
        ({"depths": (0.0, 2.0)}, r"depth is 2.0; give a number in \[0, 1\]"),
        ({"length": 18}, "length is 18; with"),
    ],
)
def test_needles_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        NeedleRecall(**fields)


def test_several_needles_are_trained_and_read():
    task = NeedleRecall(length=64, lengths=(64, 128), depths=(0.5,), num_needles=3)
    config = RecallConfig(task=task, layers=("attention",), seeds=(0,))
    settings = config.settings(config.jobs()[0])
    assert settings[0] == {"length": 64, "num_needles": 3}
    assert settings[2] == {
        "length": 128,
        "num_needles": 3,
        "depth": 0.5,
        "split": "test",
    }
    said = task.described(config).rows
    assert said.endswith("64 tokens, 3 needles anywhere, one of them asked for")
    with pytest.raises(ValueError, match="num_needles 9 give 99 or more"):
        NeedleRecall(length=64, num_needles=9)
