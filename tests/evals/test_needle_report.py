"""The page of a comparison on the needle."""

import pytest

from memzoo.evals.figures import Curve
from memzoo.evals.needle_report import (
    by_length,
    needle_finding,
    needle_sections,
    trained_cells,
)
from memzoo.evals.report import curve_key

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
            there = {"length": length, "depth": depth}
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


def test_the_trained_cells_are_those_without_a_depth():
    cells = trained_cells(ROWS)
    assert [(c.layer, c.mean, c.reached) for c in cells] == [
        ("attention", 1.0, (200, 200)),
        ("delta_net", 1.0, (200, 200)),
    ]


def test_the_finding_says_the_trained_and_the_longest_length():
    assert needle_finding(ROWS, 64) == (
        "Trained on needles in 64 tokens, share of value tokens found: in 64 tokens "
        "attention 90.0 %, delta_net 90.0 %; in 4,096 tokens attention 30.0 %, "
        "delta_net 30.0 % (chance: 5.0 %)."
    )
    assert "found: in 4,096 tokens" in needle_finding(ROWS, 7)


def test_the_sections_hold_figures_maps_a_table_and_remarks():
    curve = Curve(learning_rate=0.1, seed=0, steps=(100,), accuracy=(0.5,))
    key = curve_key("delta_net", {"length": 64, "width": 8})
    sections = needle_sections(ROWS, {key: [curve]}, trained=64, steps=300, goal=0.99)
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
    sections = needle_sections(ROWS, {}, trained=64, steps=300, goal=0.99)
    assert "Learning curves" not in [section.title for section in sections]
