"""Orbax's messages are dropped, others are not."""

import asyncio
import gc
import logging
import sys
import types
import warnings

import pytest

from memzoo.train.orbax_messages import quiet_orbax, quiet_unfinished


@pytest.fixture
def heard(monkeypatch):
    """Record the unraisable errors that reach the previous hook."""
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
        (AttributeError("no _ssock", name="_ssock"), 0),
        (AttributeError("no _other", name="_other"), 1),
    ],
)
def test_late_writes_are_not_reported(heard, error, count):
    sys.unraisablehook(types.SimpleNamespace(exc_value=error, object=None))
    assert len(heard) == count


def reading(filename):
    """Return a coroutine function of that source file that fails, at once or when
    closed."""
    source = """
async def read(at_once):
    if at_once:
        raise ValueError("OUT_OF_RANGE")
    try:
        await asyncio.sleep(9)
    finally:
        raise ValueError("too late")
"""
    scope = {"asyncio": asyncio}
    exec(compile(source, filename, "exec"), scope)
    return scope["read"]


async def read_side_by_side(read):
    """One error is raised; two others belong to nobody, and one read is still open."""
    tasks = [asyncio.create_task(read(at_once)) for at_once in (True, True, False)]
    await asyncio.sleep(0)
    del tasks
    await read(True)


@pytest.mark.parametrize(
    ("filename", "logged", "unraisable"),
    [("/lib/orbax/checkpoint/reading.py", 0, 0), ("/lib/grain/reading.py", 3, 1)],
)
def test_reads_that_orbax_leaves_are_not_reported(
    heard, caplog, filename, logged, unraisable
):
    loop = asyncio.new_event_loop()
    with pytest.raises(ValueError, match="OUT_OF_RANGE"):
        loop.run_until_complete(read_side_by_side(reading(filename)))
    loop.close()
    del loop
    gc.collect()
    records = [r for r in caplog.records if r.name == "asyncio"]
    assert (len(records), len(heard)) == (logged, unraisable)


def test_coroutines_of_a_failed_save_are_not_reported():
    async def write():
        pass

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        write()
        gc.collect()
        assert len(said) == 1
        quiet_unfinished()
        write()
        gc.collect()
    assert len(said) == 1


def test_only_orbax_is_not_logged(heard):
    logger = logging.getLogger("absl")

    def record(path):
        return logger.makeRecord("absl", logging.ERROR, path, 1, "text", (), None)

    assert not logger.filter(record("/lib/orbax/checkpoint/manager.py"))
    assert logger.filter(record("/lib/grain/data.py"))
