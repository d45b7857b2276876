import os
import sys

import pytest

from memzoo.benchmarks.contestant import (
    RETURN_MEMORY,
    Contestant,
    ContestantError,
    can_pin,
    keep_compiled,
    pinned,
    usable_cores,
)

ECHO = """
import json, os, sys
for line in sys.stdin:
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    threads = os.environ["OMP_NUM_THREADS"]
    print(json.dumps({"cores": cores, "threads": threads}), flush=True)
"""


def test_a_contestant_lives_on_its_cores_with_as_many_threads():
    core = max(usable_cores())
    command = [sys.executable, "-c", ECHO]
    with Contestant("echo", command, frozenset([core])) as contestant:
        answer = contestant.ask("anything")
        assert answer["threads"] == "1"
        if can_pin():
            assert answer["cores"] == [core]


@pytest.mark.parametrize("device, shown", [("cpu", ""), ("gpu", None)])
def test_a_contestant_sees_a_gpu_only_where_it_is_to(device, shown, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    echo = ECHO.replace(
        'json.dumps({"cores": cores, "threads": threads})',
        'json.dumps({"shown": os.environ.get("CUDA_VISIBLE_DEVICES")})',
    )
    command = [sys.executable, "-c", echo]
    with Contestant("echo", command, usable_cores(), device=device) as contestant:
        assert contestant.ask("anything")["shown"] == shown


def test_pinning_ends_with_the_block():
    before = usable_cores()
    with pinned(frozenset([min(before)])):
        pass
    assert usable_cores() == before


def test_a_contestant_that_ended_is_reported_with_its_last_words():
    command = [sys.executable, "-c", "raise SystemExit('no such peer')"]
    with (
        Contestant("gone", command, usable_cores()) as contestant,
        pytest.raises(ContestantError, match="gone ended: no such peer"),
    ):
        contestant.ask("versions")
        contestant.ask("versions")


def test_a_silent_end_is_reported_with_its_exit_code():
    command = [sys.executable, "-c", "raise SystemExit(7)"]
    with (
        Contestant("gone", command, usable_cores()) as contestant,
        pytest.raises(ContestantError, match="exit code 7"),
    ):
        contestant.ask("versions")


def test_a_system_that_cannot_pin_runs_unpinned(monkeypatch):
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    assert not can_pin()
    assert usable_cores() == frozenset(range(os.cpu_count() or 1))
    with pinned(frozenset([0])):
        pass


def test_a_cache_of_the_users_own_is_used(monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "mine")
    assert keep_compiled(tmp_path)["JAX_COMPILATION_CACHE_DIR"] == "mine"
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    assert keep_compiled(tmp_path)["JAX_COMPILATION_CACHE_DIR"].startswith(
        str(tmp_path)
    )


def test_freed_memory_is_seen_to_be_free():
    # A process that keeps freed memory would report less than it uses.
    code = """
import json, sys
import numpy as np
from memzoo.benchmarks.serving import _peak_growth
kept = [np.ones(50_000) for _ in range(200)]
del kept
for line in sys.stdin:
    growth = _peak_growth(lambda: [np.ones(50_000) for _ in range(100)])
    print(json.dumps({"growth": growth}), flush=True)
"""
    command = [sys.executable, "-c", code]
    cores = usable_cores()
    with Contestant("frees", command, cores, RETURN_MEMORY) as contestant:
        growth = contestant.ask("memory")["growth"]
    if growth is None:
        pytest.skip("this system does not tell a process its peak")
    assert 39e6 < growth < 60e6
