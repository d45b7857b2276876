"""Comparison of layers on recall tasks, from Python."""

import sys
import types

import pytest

import memzoo
from memzoo.errors import InputError, MemzooError

SMALL = {
    "vocab_size": 32,
    "length": 16,
    "width": (8,),
    "depth": 1,
    "learning_rates": (1e-2,),
    "seeds": (0,),
    "steps": 2,
    "batch_size": 8,
    "evaluation_examples": 8,
    "progress": False,
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return memzoo.recall(
        ["linear_attention"],
        num_pairs=[2, 4],
        output=tmp_path_factory.mktemp("recall"),
        **SMALL,
    )


def test_rows_are_flat(table):
    settings = {(row["layer"], row["num_pairs"]) for row in table.rows}
    assert settings == {("linear_attention", 2), ("linear_attention", 4)}
    assert table.page.is_file()
    written = table.page.with_name("results.csv").read_text().splitlines()
    assert len(written) == 1 + len(table.rows)
    assert written[0].split(",") == list(table.rows[0])


def test_rows_become_a_data_frame(table, monkeypatch):
    frames = types.ModuleType("pandas")
    frames.DataFrame = lambda rows: ("frame", rows)
    monkeypatch.setitem(sys.modules, "pandas", frames)
    assert table.to_pandas() == ("frame", table.rows)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MemzooError, match=r"install memzoo\[pandas\], or use .rows"):
        table.to_pandas()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"num_pair": 4}, "option is 'num_pair'; did you mean num_pairs"),
        ({"task": "mqr"}, "task is 'mqr'; did you mean mqar"),
        ({"layers": ["delta"]}, "delta"),
    ],
)
def test_what_cannot_be_compared_is_refused(options, line):
    with pytest.raises(InputError, match=line):
        memzoo.recall(**options)
