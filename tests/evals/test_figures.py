"""Figures: every layer and seed is drawn, and nothing refers outside."""

import dataclasses
import re
import xml.etree.ElementTree

import pytest

from memzoo.evals import figures
from memzoo.evals.figures import Curve
from memzoo.evals.number_text import length_text
from memzoo.evals.summary import Cell, Run


def cell(layer="delta_net", pairs=4, values=(0.5, 0.9), state=1024, chance=0.25):
    runs = tuple(
        Run(learning_rate=rate, seed=seed, value=value, steps=None)
        for rate in (0.1, 0.2)
        for seed, value in enumerate(values)
    )
    return Cell(
        layer=layer,
        setting=(("length", 16), ("num_pairs", pairs)),
        parameters=7,
        state_bytes=state,
        chance=chance,
        learning_rate=0.1,
        runs=runs,
    )


CELLS = [
    cell("delta_net"),
    cell("attention", values=(1.0, 1.0), state=4096),
    cell("delta_net", pairs=8),
    cell("attention", pairs=8, state=4096),
]
LENGTHS = [
    dataclasses.replace(cell(layer), setting=(("length", length),))
    for layer in ("delta_net", "attention")
    for length in (256, 1024)
]
NUMBERS = {"delta_net": 0, "attention": 1}
CURVES = [
    Curve(learning_rate=rate, seed=seed, steps=(10, 20), accuracy=(0.2, 0.5))
    for rate in (0.1, 0.2)
    for seed in (0, 1)
]

DRAWN = {
    "pairs": lambda: figures.accuracy_by_setting(
        CELLS,
        NUMBERS,
        "num_pairs",
        name="pairs",
        title="by pairs",
        axis="key-value pairs in the sequence",
    ),
    "state": lambda: figures.accuracy_by_state(CELLS[:2], NUMBERS),
    "rates": lambda: figures.accuracy_by_learning_rate(CELLS[:2], NUMBERS),
    "curves": lambda: figures.learning_curves(CELLS[0], CURVES, 0, 20),
    "context": lambda: figures.by_context(
        {"delta_net": [(8, 4.0), (16, 3.0)]},
        NUMBERS,
        name="bits",
        label="bits per byte",
        share=False,
    ),
    "length": lambda: figures.accuracy_by_setting(
        LENGTHS,
        NUMBERS,
        "length",
        name="length",
        title="by length",
        axis="tokens read",
        label="share right",
        tick=length_text,
        trained=256,
    ),
}


@pytest.fixture(scope="module")
def drawn():
    return {name: draw() for name, draw in DRAWN.items()}


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_is_one_element_with_no_address_and_no_fixed_colour(drawn, name):
    svg = drawn[name]
    xml.etree.ElementTree.fromstring(svg)
    assert "http" not in svg and "xmlns" not in svg
    assert not re.search(r"#[0-9a-fA-F]{6}", svg)
    assert "var(--series-0)" in svg
    assert not re.search(r'<svg[^>]* width="', svg)


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_is_the_same_every_time(drawn, name):
    assert DRAWN[name]() == drawn[name]


def test_what_a_figure_refers_to_is_its_own(drawn):
    for svg in drawn.values():
        names = set(re.findall(r'id="([^"]+)"', svg))
        used = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg)
        assert {a or b for a, b in used} <= names
    identifiers = [re.findall(r'id="([^"]+)"', svg) for svg in drawn.values()]
    assert sum(map(len, map(set, identifiers))) == len(set().union(*identifiers))


def test_axes_are_named_with_units(drawn):
    assert "key-value pairs in the sequence" in drawn["pairs"]
    assert "bytes, log scale" in drawn["state"]
    assert "optimizer steps" in drawn["curves"]
    assert "tokens of context, up to" in drawn["context"]
    assert "accuracy (share of queries)" in drawn["pairs"]
    for name in ("pairs", "state", "length"):
        assert "chance" in drawn[name]
    assert "tokens read" in drawn["length"] and "share right" in drawn["length"]


def test_the_trained_length_is_marked_and_lengths_are_short(drawn):
    assert ">trained<" in drawn["length"]
    for text in ("256", "1k"):
        assert f">{text}<" in drawn["length"]


def test_points_that_lie_together_have_names_that_do_not(drawn):
    same = [cell("delta_net"), cell("gated_delta_net")]
    svg = figures.accuracy_by_state(same, {"delta_net": 0, "gated_delta_net": 1})
    heights = {
        name: re.search(rf'y="([\d.]+)"[^>]*>{name}<', svg)
        or re.search(rf"translate\([\d.]+ ([\d.]+)\)[^>]*>{name}<", svg)
        for name in ("delta_net", "gated_delta_net")
    }
    a, b = (float(found[1]) for found in heights.values())
    assert abs(a - b) > 8
