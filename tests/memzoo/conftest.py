"""The command line, called in this process."""

import pytest

from memzoo.__main__ import main


@pytest.fixture
def call(capsys):
    """A command's exit code, and what it printed."""

    def call(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return call
