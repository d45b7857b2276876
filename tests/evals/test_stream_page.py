"""The page of a document that was streamed."""

import math

import numpy as np
import pytest

from memzoo.evals.stream import Carried, Curve, Streamed, Tally
from memzoo.evals.stream_page import short_count, write_stream_page


def page(tmp_path, *, surprise, length=3000):
    tally, curve = Tally(), Curve()
    bits = 8 / np.log2(2 + np.arange(length))
    tally.add(1, {"bits_per_byte": bits, "accuracy": bits < 1})
    if surprise:
        curve.add(np.linspace(1, 0, length, dtype=np.float32))
        tally.add(1, {"surprise": np.ones(length)})
        tally.counts //= 2
    streamed = Streamed(
        carried=Carried((), 0, length, 0),
        tally=tally,
        length=length,
        surprise=curve if surprise else None,
        seconds=2.0,
        first_seconds=1.0,
        first_length=1024,
        resident={},
    )
    path = write_stream_page(
        tmp_path / "stream.html",
        streamed,
        tally.rows({"length": length}, length),
        layer="titans_lmm",
        document="a <b>.txt",
        said=["3,000 tokens in 2 s"],
    )
    return path.read_text()


def test_it_shows_what_a_byte_costs_and_what_surprised(tmp_path):
    text = page(tmp_path, surprise=True)
    bits = np.mean(8 / np.log2(2 + np.arange(3000)))
    assert f"3,000 bytes of a &lt;b&gt;.txt in one go, at {bits:.3f} bits" in text
    assert "2,049 to 3,000" in text and "3,000 tokens in 2 s" in text
    assert "windows of 16 tokens" in text and text.count("<svg role") == 2
    assert math.isclose(float(text.split("over all ")[1][:1]), 1)


def test_no_surprise_is_said(tmp_path):
    text = page(tmp_path, surprise=False)
    assert "No layer of this model reported surprise" in text
    assert text.count("<svg role") == 1


@pytest.mark.parametrize("length", [1, 8, 9])
def test_a_short_document_has_a_page(tmp_path, length):
    assert "bits per byte" in page(tmp_path, surprise=True, length=length)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (512, "512"),
        (1024, "1k"),
        (2000, "2k"),
        (131_072, "128k"),
        (2_000_000, "2M"),
        (2**21, "2M"),
        (1_234_567, "1.23M"),
    ],
)
def test_numbers_of_tokens_are_short(count, text):
    assert short_count(count) == text
