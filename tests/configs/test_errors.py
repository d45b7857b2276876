"""Errors and the exit codes that the documentation promises."""

import pytest

from memzoo.configs.errors import CheckpointError, MemzooError, NonFiniteError


@pytest.mark.parametrize(
    ("kind", "code"), [(MemzooError, 2), (NonFiniteError, 3), (CheckpointError, 4)]
)
def test_exit_codes(kind, code):
    error = kind("what is wrong; what to do")
    assert isinstance(error, MemzooError)
    assert error.exit_code == code
    assert str(error) == "what is wrong; what to do"
