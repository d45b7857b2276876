"""Joining other processes, on request."""

import socket

import pytest

from memzoo.errors import MemzooError
from memzoo.train import distributed
from memzoo.train.distributed import join_processes


@pytest.fixture
def joined(monkeypatch):
    """Record the calls of jax.distributed."""
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


@pytest.mark.parametrize("value", ["localhost:1234,1,2", " [::1]:1234, 1, 2 "])
def test_the_parts_are_read(joined, value):
    assert join_processes(value)
    assert joined[0][1:] == (2, 1) and joined[0][0] in value


FORM = "; give HOST:PORT,INDEX,COUNT or auto"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("localhost:1234", FORM),
        ("a,b,c", FORM),
        ("host:1,0", FORM),
        ("host:1,0,2,3", FORM),
        ("host:1,,2", FORM),
        (" ", FORM),
        ("AUTO", FORM),
        ("host:1,0,nan", FORM),
        ("host:1,0.0,1", FORM),
        (
            "nohost,0,1",
            "'nohost' is not HOST:PORT; give the host of process 0 and a po",
        ),
        ("localhost:,0,1", "'localhost:' is not HOST:PORT"),
        (":1234,0,1", "':1234' is not HOST:PORT"),
        ("localhost:0,0,1", "'localhost:0' is not HOST:PORT"),
        ("localhost:65536,0,1", "'localhost:65536' is not HOST:PORT"),
        ("localhost:-1,0,1", "'localhost:-1' is not HOST:PORT"),
        ("http://localhost:12,0,1", "'http://localhost:12' is not HOST:PORT"),
        ("::1:1234,0,1", "'::1:1234' is not HOST:PORT"),
        ("localhost:1234,-1,2", "INDEX is -1 and COUNT 2: number the processes from 0"),
        ("localhost:1234,2,2", "INDEX is 2 and COUNT 2: number the processes from 0"),
        ("localhost:1234,0,0", "INDEX is 0 and COUNT 0: number the processes from 0"),
        ("no.such.host.invalid:1234,0,1", "the host of no.such.host.invalid:1234 is u"),
        ("a" * 70 + ":1234,0,1", "is unknown"),
    ],
)
def test_what_cannot_be_read_is_refused(joined, value, message):
    with pytest.raises(ValueError, match=r"^MEMZOO_DISTRIBUTED is ") as refusal:
        join_processes(value)
    said = str(refusal.value)
    assert message in said and "; " in said and "\n" not in said
    assert not joined


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, TypeError, IndexError])
def test_processes_that_cannot_be_joined_are_one_line(monkeypatch, kind):
    def fail(*_):
        raise kind("barrier\ntimed out")

    monkeypatch.setattr(distributed.jax.distributed, "initialize", fail)
    with pytest.raises(
        MemzooError,
        match=r"^cannot join the other processes at localhost:1234 \((IndexError: )?"
        r"barrier timed out\); see",
    ):
        join_processes("localhost:1234,0,1")


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, KeyError])
def test_off_a_cluster_nothing_is_found_out(monkeypatch, kind):
    def fail():
        raise kind("coordinator_address\nshould be defined.")

    monkeypatch.setattr(distributed.jax.distributed, "initialize", fail)
    with pytest.raises(
        MemzooError,
        match=r"\((KeyError: )?coordinator_address should be defined.\); start the "
        r"command under Slurm, MPI or on a TPU pod, or set "
        r"MEMZOO_DISTRIBUTED=HOST:PORT,INDEX,COUNT",
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
        f"memzoo: after 1 s not all processes met at localhost:{port} (process "
        f"{index} of 2 is here); start all of them, and check that they can reach that "
        "address"
    )
