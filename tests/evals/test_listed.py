"""Tuples on the command line."""

import tyro

from memzoo.evals.listed import Floats, Integers, Names, Sizes


def read(kind, *words):
    def asked(values: kind = ()) -> None:
        return values

    return tyro.cli(asked, args=["--values", *words])


def test_commas_and_spaces_are_the_same():
    assert read(Integers, "1,2", "3") == read(Integers, "1", "2", "3,") == (1, 2, 3)
    assert read(Names, "a,b") == ("a", "b")
    assert read(Floats, "1e-2,3") == (0.01, 3.0)
    assert read(Sizes, "1:2,30:4") == ((1, 2), (30, 4))
