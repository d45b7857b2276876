"""Tuples on the command line."""

from dataclasses import dataclass

import pytest

from memzoo.errors import MemzooError
from memzoo.evals.tuple_flags import (
    Floats,
    Integers,
    Names,
    Sizes,
    check_counts,
    check_tuple,
)
from memzoo.parsing import parse


@dataclass(frozen=True, kw_only=True)
class Options:
    numbers: Integers = ()
    names: Names = ("x",)
    rates: Floats = ()
    sizes: Sizes = ()


def read(flag, *words):
    return getattr(parse(Options, [f"--{flag}", *words], command="x"), flag)


@pytest.mark.parametrize("words", [("1,2", "3"), ("1", "2", "3"), ("1,", "2,", "3")])
def test_commas_and_spaces_are_the_same(words):
    assert read("numbers", *words) == (1, 2, 3)


def test_items_are_read_by_their_kind():
    assert read("names", "a,b") == read("names", "a, b") == ("a", "b")
    assert read("rates", "1e-2,3") == (0.01, 3.0)
    assert read("sizes", "1:2,30:4") == ((1, 2), (30, 4))


def test_no_words_are_no_items():
    assert read("names") == ()
    assert parse(Options, [], command="x") == Options()


@pytest.mark.parametrize(
    ("flag", "words", "line"),
    [
        ("names", ["a,,b"], "is 'a,,b', and one of its items is empty; write 'a,b'"),
        ("numbers", ["1,,2"], "is '1,,2', and one of its items is empty; write '1,2'"),
        ("numbers", ["1,2,"], "is '1,2,', and one of its items is empty; write '1,2'"),
        ("numbers", ["1", "", "2"], "is '1,,2', and one of its items is empty; write"),
        ("rates", [",0.1"], "is ',0.1', and one of its items is empty; write '0.1'"),
        ("sizes", ["1:2,,"], "is '1:2,,', and one of its items is empty; write '1:2'"),
        ("names", [""], "is an empty list; give at least one item, or leave it out"),
        ("names", [" "], "is an empty list; give at least one item, or leave it out"),
        ("numbers", [","], "is an empty list; give at least one item, or leave it out"),
        ("numbers", ["1,x"], "is '1,x'; it must be INT,INT,..."),
        ("sizes", ["1:2:3"], "is '1:2:3'; it must be INT:INT,INT:INT,..."),
    ],
)
def test_what_is_no_list_is_one_line(flag, words, line):
    with pytest.raises(MemzooError) as refusal:
        read(flag, *words)
    assert str(refusal.value).startswith(f"--{flag} {line}")
    assert "\n" not in str(refusal.value)


def test_tuples_and_counts_are_checked():
    for values, said in (((), "rates is empty"), ((1, 1), "rates is .* drop the dup")):
        with pytest.raises(MemzooError, match=said):
            check_tuple("rates", values)
    check_counts(Options(numbers=(1, 2**31 - 1)), ("numbers",))
    for number in (0, 2**31):
        with pytest.raises(MemzooError, match=f"numbers is {number}; give"):
            check_counts(Options(numbers=(1, number)), ("numbers",))
