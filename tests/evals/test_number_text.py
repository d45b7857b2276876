"""Numbers in words."""

import pytest

from memzoo.evals.number_text import (
    byte_text,
    duration_text,
    length_text,
    percent_text,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h")],
)
def test_durations_as_people_read_them(seconds, text):
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1024, "1 KiB"),
        (34_816, "34 KiB"),
        (1023 * 1024, "1023 KiB"),
        (3 * 2**20, "3 MiB"),
        (2**42, "4096 GiB"),
    ],
)
def test_bytes_as_people_read_them(count, text):
    assert byte_text(count) == text


def test_lengths_and_shares_as_people_read_them():
    assert [length_text(n) for n in (100, 1024, 16_384)] == ["100", "1k", "16k"]
    shares = [percent_text(share) for share in (0.0, 0.5, 0.9999, 1.0)]
    assert shares == ["0.0%", "50.0%", "99.9%", "100.0%"]
