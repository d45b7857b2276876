"""Comparison of layers on recall tasks, from Python."""

import inspect
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
        inspect.unwrap(memzoo.recall)(**options)  # as without type checks


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"layers": [memzoo.layers.DeltaNetConfig()]},
            r"DeltaNetConfig.* is not a name",
        ),
        ({"task": 3}, "task is 3; give a name, or file.py:Config"),
        ({"num_pairs": "two"}, "num_pairs is 'two', and 'two' is not a whole number"),
        ({"width": (8.5,)}, r"width is \(8.5,\), and 8.5 is not a whole number"),
        ({"seeds": [0, "1"]}, "and '1' is not a whole number"),
        (
            {"task": "set_disjointness", "sizes": (2, 4)},
            r"sizes is \(2, 4\), and 2 is not a pair of whole numbers",
        ),
    ],
)
def test_items_of_wrong_types_are_refused(options, line):
    with pytest.raises(InputError, match=line):
        inspect.unwrap(memzoo.recall)(**options)  # as without type checks


def test_a_single_value_stands_for_a_tuple_of_one(tmp_path):
    table = memzoo.recall(
        "linear_attention",
        num_pairs=2,
        output=tmp_path,
        **SMALL | {"width": 8, "seeds": 0, "learning_rates": 0.01},
    )
    assert {row["layer"] for row in table.rows} == {"linear_attention"}
    assert {row["seed"] for row in table.rows} == {0}
