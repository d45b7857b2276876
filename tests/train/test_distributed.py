"""Joining other processes, as asked."""

import socket

import pytest

from memzoo.configs.errors import MemzooError
from memzoo.train import distributed
from memzoo.train.distributed import join_processes


@pytest.fixture
def joined(monkeypatch):
    """What jax.distributed was called with."""
    calls = []
    monkeypatch.setattr(
        distributed.jax.distributed, "initialize", lambda *a: calls.append(a)
    )
    monkeypatch.delenv("MEMZOO_DISTRIBUTED", raising=False)
    return calls


def test_alone_unless_asked(joined):
    assert not join_processes()
    assert not joined


def test_the_environment_says_which(joined, monkeypatch):
    monkeypatch.setenv("MEMZOO_DISTRIBUTED", "localhost:1234,1,2")
    assert join_processes()
    assert joined == [("localhost:1234", 2, 1)]


def test_jax_finds_out(joined):
    assert join_processes("auto")
    assert joined == [()]


@pytest.mark.parametrize("value", ["localhost:1234", "a,b,c", "host:1,0"])
def test_what_cannot_be_read_is_refused(joined, value):
    with pytest.raises(ValueError, match=r"; give HOST:PORT,INDEX,COUNT or auto"):
        join_processes(value)
    assert not joined


@pytest.mark.parametrize("kind", [RuntimeError, ValueError])
def test_off_a_cluster_nothing_is_found_out(monkeypatch, kind):
    def fail():
        raise kind("coordinator_address\nshould be defined.")

    monkeypatch.setattr(distributed.jax.distributed, "initialize", fail)
    with pytest.raises(
        MemzooError,
        match=r"\(coordinator_address should be defined.\); start the command under "
        r"Slurm, MPI or on a TPU pod, or set MEMZOO_DISTRIBUTED=HOST:PORT,INDEX,COUNT",
    ):
        join_processes("auto")


ALONE = """
import sys
from memzoo.train import distributed
distributed._PATIENCE = 1.0
distributed.join_processes(sys.argv[1])
"""


@pytest.mark.parametrize("index", [0, 1])
def test_a_process_that_stays_alone_says_so(run_python, index):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    done = run_python(ALONE, f"localhost:{port},{index},2")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"memzoo: after 1 s not all processes have met at localhost:{port} (process "
        f"{index} of 2 is here); start all of them, and see that they can reach that "
        "address"
    )
