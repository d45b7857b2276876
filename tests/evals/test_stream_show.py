"""Progress and summary of a streamed document."""

import io

import pytest
from rich.console import Console

from memzoo.evals.stream import Carried, Curve, Streamed, Tally
from memzoo.evals.stream_show import StreamScreen, summary


def streamed(**fields):
    values = {
        "carried": Carried((), 0, 30_000, 0),
        "tally": Tally(),
        "length": 30_000,
        "surprise": Curve(),
        "seconds": 16.0,
        "first_seconds": 6.0,
        "first_length": 10_000,
        "resident": {1000: 2**20, 8000: 2**21, 16_000: 2**22, 30_000: 2**22},
    }
    return Streamed(**(values | fields))


def test_lines_say_how_far_it_is_and_how_long_it_takes():
    out = io.StringIO()
    now = iter([0.0, 1.0, 10.0, 12.0, 20.0])
    with StreamScreen(
        4000, console=Console(file=out, width=100), clock=lambda: next(now)
    ) as screen:
        for tokens in (100, 1000, 1200, 2000):
            screen.at(tokens)
    assert out.getvalue().splitlines() == [
        "1,000 of 4,000 tokens, 100 per second, about 30 s left",
        "2,000 of 4,000 tokens, 100 per second, about 20 s left",
    ]


def test_an_unknown_end_is_not_guessed():
    out = io.StringIO()
    now = iter([0.0, 10.0])
    screen = StreamScreen(
        None, console=Console(file=out, width=100), clock=lambda: next(now)
    )
    screen.at(1000)
    assert out.getvalue() == "1,000 tokens, 100 per second\n"


def test_the_summary_names_speed_and_memory():
    found = streamed()
    assert list(summary(found)) == [
        "30,000 tokens in 16 s: 2,000 tokens per second after compilation",
        "resident memory by tokens read: 1 MiB after 1,000, 4 MiB after 16,000, "
        "4 MiB after 30,000",
    ]
    found = streamed(resident={}, seconds=7200.0)
    assert "in 2.0 h" in summary(found)[0]
    assert summary(found)[1] == "resident memory: not reported by this system"


@pytest.mark.parametrize(
    ("first_length", "speed"), [(10_000, 2000.0), (30_000, 30_000 / 16)]
)
def test_speed_leaves_the_first_piece_out(first_length, speed):
    assert streamed(first_length=first_length).tokens_per_second == speed
