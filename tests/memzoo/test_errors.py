"""Errors and the exit codes that the documentation promises."""

import pytest

from memzoo.errors import (
    CheckpointError,
    InputError,
    MemzooError,
    NonFiniteError,
    name_to_use,
    with_article,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [(MemzooError, 2), (InputError, 2), (NonFiniteError, 3), (CheckpointError, 4)],
)
def test_exit_codes(kind, code):
    error = kind("what is wrong; what to do")
    assert isinstance(error, MemzooError)
    assert error.exit_code == code
    assert str(error) == "what is wrong; what to do"


def test_a_refusal_is_a_value_error():
    """Code that uses the library can catch the usual ValueError."""
    assert issubclass(InputError, ValueError)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("beta", "it is called write_strength here"),
        ("lenght", "did you mean length?"),
        ("zzz", "it has length, write_strength"),
        # The other name is that of nothing known.
        ("gamma", "it has length, write_strength"),
    ],
)
def test_unknown_names_have_a_remedy(name, remedy):
    known = ["length", "write_strength"]
    others = {"beta": "write_strength", "gamma": "decay"}
    assert name_to_use(name, known, others, rest="it has") == remedy


def test_articles():
    assert with_article("AttentionState") == "an AttentionState"
    assert with_article("list") == "a list"
