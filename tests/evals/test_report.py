"""The page of a comparison: its content, and that it needs nothing else."""

import io
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from memzoo.evals.figures import Curve
from memzoo.evals.page import write_page
from memzoo.evals.recall_task import Measured
from memzoo.evals.report import (
    curve_key,
    curve_sections,
    made_section,
    range_cell,
    steps_cell,
)
from memzoo.evals.summary import summarise
from memzoo.evals.table import print_table
from memzoo.evals.tasks.mqar import MqarRecall
from memzoo.evals.text_report import text_section

LAYERS = {"gated_delta_net": (100_352, 34_816), "linear_attention": (98_000, 2_000)}


def setting(pairs):
    return {"num_pairs": pairs, "length": 64, "width": 64}


def recall_rows():
    rows = []
    for layer, (parameters, state) in LAYERS.items():
        for pairs in (4, 16):
            for rate in (0.01, 0.003):
                for seed in (0, 1):
                    good = layer == "gated_delta_net" and rate == 0.01
                    base = {
                        "layer": layer,
                        "task": "mqar",
                        "setting": setting(pairs),
                        "seed": seed,
                        "learning_rate": rate,
                        "parameters": parameters,
                        "state_bytes": state,
                        "checkpoint_step": 1500,
                        "chance": 1 / pairs,
                    }
                    value = 0.995 if good else 0.125 + seed / 100
                    rows.append(base | {"metric": "accuracy", "value": value})
                    if good and (seed == 0 or pairs == 4):
                        steps = {"metric": "steps_to_0.99", "value": 200}
                        rows.append(base | steps)
    return rows


def text_rows():
    base = {"layer": "gated_delta_net", "parameters": 5, "state_bytes": 2048}
    rows = []
    for metric, whole in (("bits_per_byte", 2.345), ("accuracy", 0.5)):
        one = base | {"metric": metric}
        rows.append(one | {"setting": {"length": 16}, "value": whole})
        for first, last in ((1, 8), (9, 16)):
            where = {"length": 16, "context_from": first, "context_to": last}
            rows.append(one | {"setting": where, "value": whole / last})
    return rows


def findings(rows, curves=None):
    measured = Measured(rows=rows, curves=curves or {}, steps=1500, goal=0.99)
    return MqarRecall().findings(measured)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    rows = recall_rows()
    curves = {
        curve_key(layer, setting(16)): [
            Curve(learning_rate=rate, seed=seed, steps=(100, 200), accuracy=(0.1, 0.9))
            for rate in (0.01, 0.003)
            for seed in (0, 1)
        ]
        for layer in LAYERS
    }
    found = findings(rows, curves)
    sections = [
        *found.sections,
        text_section(text_rows(), name="Some <text>"),
        made_section("memzoo recall --layers a,b", {"jax": "1.2.3"}, ["a detail"]),
    ]
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_page(path, title="Recall", finding=found.finding, sections=sections)
    return path.read_text()


class Structure(HTMLParser):
    """Headings, captions, table heads and rows, and the number of figures."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.lines, self.cells, self.figures = [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "br"):
            self.tags.append(tag)
        self.figures += tag == "figure"

    def handle_endtag(self, tag):
        self.tags.pop()
        if tag == "tr":
            self.lines.append(" | ".join(self.cells))
            self.cells = []

    def handle_data(self, data):
        if {"svg", "style"} & set(self.tags) or not data.strip():
            return
        if "tr" in self.tags:
            self.cells.append(data.strip())
        elif self.tags[-1] in ("h1", "h2", "h3", "b", "pre"):
            self.lines.append(f"{self.tags[-1]}: {data.strip()}")


GOLDEN = """\
h1: Recall
h2: Accuracy
b: How many pairs fit?
b: What does it cost?
h2: Every number
h3: 16 pairs, 64 tokens, width 64, chance 0.062
layer | parameters | state | best learning rate | seeds at 0.99 | mean accuracy | \
lowest to highest | seeds, 0 to 1 | steps to 0.99
gated_delta_net | 100,352 | 34 KiB | 0.01 | 1 of 2 | 0.995 | 0.995 to 0.995 | \
200 to > 1,500
linear_attention | 98,000 | 1.95 KiB | 0.003 | 0 of 2 | 0.130 | 0.125 to 0.135 | \
> 1,500
h3: 4 pairs, 64 tokens, width 64, chance 0.250
layer | parameters | state | best learning rate | seeds at 0.99 | mean accuracy | \
lowest to highest | seeds, 0 to 1 | steps to 0.99
gated_delta_net | 100,352 | 34 KiB | 0.01 | 2 of 2 | 0.995 | 0.995 to 0.995 | 200
linear_attention | 98,000 | 1.95 KiB | 0.003 | 0 of 2 | 0.130 | 0.125 to 0.135 | \
> 1,500
h2: Learning curves
b: gated_delta_net
b: linear_attention
h2: How to read this
h2: Real text
layer | parameters | state | bits per byte | next byte right
gated_delta_net | 5 | 2 KiB | 2.345 | 50.0%
b: Does it use its context?
b: How often is the next byte right?
h2: How this was made
pre: memzoo recall --layers a,b
"""


def test_the_page_holds_these_parts_in_this_order(page):
    structure = Structure(page)
    assert structure.tags == []
    assert "\n".join(structure.lines) + "\n" == GOLDEN
    assert structure.figures == 6


def test_the_finding_is_the_hardest_setting(page):
    finding = (
        "Recall of 16 key-value pairs in 64 tokens: gated_delta_net 99.5%, "
        "linear_attention 13.0% (chance: 6.2%)."
    )
    assert findings(recall_rows()).finding == finding
    assert finding in page


def test_the_page_is_self_contained(page):
    for outside in ("http:", "https:", "<script", "<link", "<img", "@import", " src="):
        assert outside not in page
    assert set(re.findall(r'href="([^"])', page)) <= {"#"}
    assert set(re.findall(r"url\((.)", page)) <= {"#"}


def test_identifiers_are_used_once(page):
    # The same swatch may occur in several places; it is the same element each time.
    names = re.findall(r'id="([^"]+)"', page)
    again = {name for name in names if names.count(name) > 1}
    assert all(name.startswith("swatch") for name in again)


def test_both_colour_schemes_define_every_colour_that_is_used(page):
    used = set(re.findall(r"var\((--[\w-]+)\)", page))
    light, dark = page.split("prefers-color-scheme: dark", 1)
    assert used - set(re.findall(r"(--[\w-]+):", light)) == set()
    colours = used - {"--sans", "--mono"}
    assert colours - set(re.findall(r"(--[\w-]+):", dark)) == set()


def test_the_honest_remarks_are_there(page):
    assert "micro-MQAR" in page
    assert "not with numbers from papers" in page
    assert "a detail" in page and "jax 1.2.3" in page
    assert "Some &lt;text&gt;" in page


def test_a_sweep_without_curves_has_no_such_section():
    sections = findings(recall_rows()).sections
    assert "Learning curves" not in [section.title for section in sections]


def test_curves_of_several_settings_say_which_is_which():
    cells = [c for c in summarise(recall_rows()) if c.layer == "linear_attention"]
    curve = Curve(learning_rate=0.01, seed=0, steps=(100,), accuracy=(0.1,))
    curves = {(cell.layer, cell.setting): [curve] for cell in cells}
    numbers = {"linear_attention": 0}
    (section,) = curve_sections(cells, curves, numbers, 1500)
    assert "4 pairs, 64 tokens; best" in section.body
    assert "16 pairs, 64 tokens; best" in section.body
    assert "pairs" not in section.lead
    (section,) = curve_sections(cells[:1], curves, numbers, 1500)
    assert "pairs" not in section.body and "4 pairs, 64 tokens. " in section.lead


def test_three_learning_rates_are_a_figure():
    rows = recall_rows()
    more = [
        row | {"learning_rate": 0.03} for row in rows if row["learning_rate"] < 0.01
    ]
    sections = findings(rows + more).sections
    assert "How much does the learning rate matter?" in sections[0].body


def test_several_widths_are_a_line_and_a_table_each():
    rows = recall_rows()
    wide = [r | {"setting": r["setting"] | {"width": 128}} for r in rows]
    sections = findings(rows + wide).sections
    for width in (64, 128):
        assert f"16 pairs, 64 tokens, width {width}" in sections[1].body


def test_ranges_and_steps_in_words():
    both, part = summarise(recall_rows())[:2]
    assert (steps_cell(both).text, range_cell(both).text) == ("200", "0.995 to 0.995")
    assert steps_cell(part) == ("200 to > 1,500", "200->1500")
    one = summarise([row for row in recall_rows() if row["seed"] == 0])[0]
    assert range_cell(one).text == "one seed"


def test_the_tables_of_the_page_fit_a_terminal_of_80_columns():
    name = "titans_lmm-no_persistent_tokens"
    rows = [
        row | {"layer": name, "parameters": 1_234_567}
        for row in recall_rows()
        if row["layer"] == "gated_delta_net" and row["setting"]["num_pairs"] == 16
    ]
    (table,) = findings(rows).sections[1].tables
    out = io.StringIO()
    print_table(table, Console(file=out, width=80))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in out.getvalue()
    assert lines[0] == "16 pairs, 64 tokens, width 64, chance 0.062"
    words = out.getvalue().split()
    for text in ("1.235M", "34", "0.01", "0.995", "0.995-0.995", "200->1500"):
        assert text in words
    # A long name is wrapped; numbers are never cut.
    assert name in "".join(line.split(" ")[0] for line in lines)
