"""The command line, called in this process."""

import gc

import pytest

from memzoo.__main__ import main


@pytest.fixture(autouse=True)
def quick_collection():
    """Keep older objects out of the collection that ends a failed command."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def call(capsys):
    """Call a command; return its exit code and its output."""

    def call(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return call
