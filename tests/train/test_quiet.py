"""What Orbax says is dropped, what others say is not."""

import logging
import sys
import types

import pytest

from memzoo.train.quiet import quiet_orbax


@pytest.fixture
def heard(monkeypatch):
    """Unraisable errors that reach the hook of before."""
    heard = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    quiet_orbax()
    quiet_orbax()
    return heard


@pytest.mark.parametrize(
    ("error", "count"),
    [
        (RuntimeError("Event loop is closed"), 0),
        (RuntimeError("something else"), 1),
        (ValueError("Event loop is closed"), 1),
    ],
)
def test_late_writes_are_not_reported(heard, error, count):
    sys.unraisablehook(types.SimpleNamespace(exc_value=error))
    assert len(heard) == count


def test_only_orbax_is_not_logged(heard):
    logger = logging.getLogger("absl")

    def record(path):
        return logger.makeRecord("absl", logging.ERROR, path, 1, "text", (), None)

    assert not logger.filter(record("/lib/orbax/checkpoint/manager.py"))
    assert logger.filter(record("/lib/grain/data.py"))
