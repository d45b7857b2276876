"""Tables in a terminal and on a page."""

import io
import re

import pytest
from rich.console import Console

from memzoo.evals.table import (
    LAYER,
    Both,
    Name,
    Strip,
    Table,
    column,
    html_table,
    print_table,
    seed_strip,
    swatch,
)

TABLE = Table(
    title="A & b [bold]",
    columns=[
        LAYER,
        column("parameters", "params"),
        column("seeds", None),
        column("mean & more"),
    ],
    rows=[
        (Name("x<y", 1), Both("1,234,567", "1.2M"), Strip([0.5], 0.25, 1), "0.5"),
        (Name("z", 0), "7", Strip([1.0], None, 0), "1.0"),
    ],
)


def test_a_terminal_shows_the_short_columns_and_cells():
    out = io.StringIO()
    print_table(TABLE, Console(file=out, width=80))
    title, head, _, first, second, *_ = out.getvalue().splitlines()
    assert title == "A & b [bold]"
    assert head.split() == ["layer", "params", "mean", "&", "more"]
    assert first.split() == ["x<y", "1.2M", "0.5"]
    assert second.split() == ["z", "7", "1.0"]


def test_a_page_shows_every_column_and_escapes_text():
    text = html_table(TABLE)
    assert text.startswith("<h3>A &amp; b [bold]</h3><table>")
    assert re.findall(r'scope="col">([^<]+)<', text) == [
        "layer",
        "parameters",
        "seeds",
        "mean &amp; more",
    ]
    assert f'<span class="name">{swatch(1)}x&lt;y</span>' in text
    assert '<td data-label="parameters">1,234,567</td>' in text
    assert text.count('class="strip"') == text.count("<circle") == 2
    bare = Table(columns=TABLE.columns, rows=[])
    assert html_table(bare).startswith("<table>")


def test_a_row_of_another_length_is_a_fault():
    wrong = Table(columns=TABLE.columns, rows=[("only",)])
    with pytest.raises(ValueError, match="zip"):
        html_table(wrong)


def test_a_swatch_is_inline_and_takes_its_colour_from_the_page():
    assert "var(--series-0)" in swatch(0) and "http" not in swatch(0)


def test_a_strip_has_a_dot_for_every_seed_and_a_tick_at_chance():
    strip = seed_strip([0.0, 0.5, 1.5], 0.25, 1)
    assert re.findall(r'cx="([\d.]+)"', strip) == ["5.0", "50.0", "95.0"]
    assert 'x1="27.5"' in strip
    assert "chance" not in seed_strip([0.5], None, 1)
