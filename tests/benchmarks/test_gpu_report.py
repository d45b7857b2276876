"""What is written about the rows of a GPU."""

import io

from rich.console import Console

from memzoo.benchmarks.gpu import ROWS, GpuResult
from memzoo.benchmarks.gpu_report import gpu_markdown, gpu_table
from memzoo.benchmarks.measures import Errors

RESULT = GpuResult(
    row=ROWS[0],
    peer_seconds=(2e-3, 4e-3, 3e-3),
    our_seconds=(1e-3, 2e-3, 3e-3),
    peer_bytes=50_000_000,
    our_bytes=None,
    errors=Errors(output=0.004, gradient=0.02),
)


def test_a_row_gives_medians_and_the_ratio_of_the_rounds():
    console = Console(width=110, file=io.StringIO())
    console.print(gpu_table([RESULT], {"device": "Card"}))
    title, *_, line = console.file.getvalue().strip().splitlines()
    assert title.startswith("Card:")
    assert line.split() == [
        "attention",
        "8x2048x8x64",
        *("both", "torch", "3.00", "2.00", "2.00", "1.00..2.00", "0.9"),
        *("50", "-", "4e-03", "2e-02"),
    ]


def test_the_page_says_how_and_where():
    page = gpu_markdown([RESULT], {"device": "Card"}, "memzoo bench --gpu", "today")
    assert "Made by `memzoo bench --gpu` on today." in page
    assert "device Card" in page
    assert "attention against torch" in page


def test_what_a_compiler_says_is_no_markup():
    failed = GpuResult(row=ROWS[0], failure="cannot broadcast [b t h k] of [/red]")
    console = Console(width=100, file=io.StringIO())
    console.print(gpu_table([RESULT, failed], {}))
    assert "cannot broadcast [b t h k] of [/red]" in console.file.getvalue()
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    assert "cannot broadcast [b t h k]" in gpu_markdown([failed], {}, "x", "today")
