"""Errors and the exit codes that the documentation promises."""

import pytest

from memzoo.errors import CheckpointError, InputError, MemzooError, NonFiniteError


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
