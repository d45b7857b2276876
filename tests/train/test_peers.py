"""Processes that watch each other: in one process over socket pairs, and in two."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest
from jax.errors import JaxRuntimeError

from memzoo.errors import MemzooError, NonFiniteError
from memzoo.train import peers
from memzoo.train.peers import Watch, watched_processes

# Joins, prints that it watches the others, and waits for their end or for a line.
SCRIPT = """
import os, sys
from memzoo.train.distributed import join_processes
join_processes()
from memzoo.train.peers import watched_processes
with watched_processes(lambda: print("stopped", flush=True), print):
    print("watching", flush=True)
    if sys.stdin.readline() == "fail\\n":
        raise RuntimeError("of its own")
"""


@pytest.fixture
def ends(monkeypatch):
    """Record exit codes and lines of ended processes, by thread name."""
    ends = {}

    def end(code, line=""):
        ends.setdefault(threading.current_thread().name, (code, line))

    monkeypatch.setattr(peers, "_exit", end)
    for name in ("_VERDICT", "_GRACE"):
        monkeypatch.setattr(peers, name, 1.0)
    monkeypatch.setattr(Watch, "_leave", lambda watch, code: None)
    return ends


@pytest.fixture
def watches(ends):
    """Three watches, as of three processes, and the connections of the first."""
    links = [socket.socketpair() for _ in range(2)]
    hub = [
        peers._Peer(link, i + 1, f"host{i + 1}") for i, (link, _) in enumerate(links)
    ]
    leaves = [[peers._Peer(link, 0, "host0")] for _, link in links]
    watches = [Watch(i, p, lambda: None) for i, p in enumerate([hub, *leaves])]
    for index, watch in enumerate(watches):
        watch._thread.name = str(index)
    yield watches, links
    for watch in watches:
        watch._own = {"end": "failed"}
    for pair in links:
        for link in pair:
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
    for watch in watches:  # afterwards a thread would end this process
        watch._thread.join(30)
        assert not watch._thread.is_alive()
    for link in (link for pair in links for link in pair):
        link.close()


def wait_for(ends, count):
    limit = time.monotonic() + 20
    while len(ends) < count and time.monotonic() < limit:
        time.sleep(0.02)
    assert len(ends) == count, ends


def test_all_others_name_the_process_that_is_lost(watches, ends):
    _, links = watches
    links[1][1].shutdown(socket.SHUT_RDWR)
    wait_for(ends, 3)
    del ends["2"]  # of process 2 itself, whose connection is gone
    for code, line in ends.values():
        assert code == 1
        assert line.startswith("memzoo: process 2 on host host2 is lost: it was killed")
        assert line.endswith("\n") and line.count("\n") == 1


def test_process_0_is_named_where_it_is_lost(watches, ends, monkeypatch):
    # A process that is lost tells nobody which connection went first.
    monkeypatch.setattr(watches[0][0], "_forward", lambda sender, message: None)
    for link, _ in watches[1]:
        link.shutdown(socket.SHUT_RDWR)
    wait_for(ends, 3)
    for name in ("1", "2"):
        assert ends[name][1].startswith("memzoo: process 0 on host host0 is lost: ")


def test_an_error_of_one_process_ends_the_others_with_its_words(watches, ends):
    with pytest.raises(NonFiniteError), watches[0][1].telling():
        raise NonFiniteError("no number")
    wait_for(ends, 2)
    for name in ("0", "2"):
        code, line = ends[name]
        assert code == 3
        assert line.startswith("memzoo: process 1 on host ")
        assert line.endswith("has stopped: no number\n")


def test_an_error_of_all_is_told_by_each(watches, ends):
    for watch in watches[0]:
        with pytest.raises(MemzooError), watch.telling():
            raise MemzooError("the same")
    time.sleep(1.5)
    assert not ends


def test_what_jax_says_of_the_end_of_another_is_not_told(watches, ends):
    def fail():
        with watches[0][2].telling():
            try:
                raise JaxRuntimeError("Gloo all-reduce failed: Connection reset")
            except JaxRuntimeError as error:
                raise MemzooError("cannot write") from error

    threading.Thread(target=fail, daemon=True).start()
    with pytest.raises(MemzooError), watches[0][1].telling():
        raise MemzooError("of its own")
    wait_for(ends, 2)
    assert ends["0"][1].startswith("memzoo: process 1 on host ")
    assert ends["0"][1].endswith(" has stopped: of its own\n")
    assert ends["2"] == ends["0"]


def test_processes_that_are_done_are_not_lost(watches, ends):
    threads = [watch._thread for watch in watches[0]]
    for watch in watches[0]:
        watch.done()
    for _, link in watches[1]:
        link.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert not ends


def test_one_that_is_done_does_not_wait_for_one_that_is_lost(watches, ends):
    watches[0][1]._on_stop = pytest.fail  # what it has done stands
    watches[0][1].done()
    for link, _ in watches[1]:
        link.shutdown(socket.SHUT_RDWR)
    wait_for(ends, 3)
    assert ends["1"][1].startswith("memzoo: process 0 on host host0 is lost: ")


def test_silence_is_a_loss(watches, ends, monkeypatch):
    monkeypatch.setattr(peers, "_PING", 0.2)
    monkeypatch.setattr(peers, "_SILENT", -1.0)
    # Wake each of them, so that it checks the clock again.
    watches[0][0]._peers[0].send({})
    watches[0][1]._peers[0].send({})
    watches[0][2]._peers[0].send({})
    wait_for(ends, 3)
    assert all(" is lost: " in line for _, line in ends.values())


def test_a_ping_is_not_answered_by_a_ping(ends):
    here, there = socket.socketpair()
    with here, there:
        watch = Watch(1, [peers._Peer(here, 0, "host0")], pytest.fail)
        for _ in range(20):
            there.sendall(b"{}\n")
            time.sleep(0.02)
        watch.done()
        assert there.recv(4096).startswith(b'{"end": "done"')
        there.sendall(b'{"end": "done", "process": 0}\n')
        there.shutdown(socket.SHUT_RDWR)
        watch._thread.join(10)
        assert not watch._thread.is_alive()
    assert not ends


def test_what_is_no_message_is_passed_over():
    here, there = socket.socketpair()
    with here, there:
        peer = peers._Peer(here)
        there.sendall(b'nonsense\n[1]\n{"end": "do')
        assert peer.receive() == []
        there.sendall(b'ne"}\n')
        assert peer.receive() == [{"end": "done"}]
        there.close()
        assert peer.receive() is None


def test_a_stranger_is_no_process_of_the_training():
    here, there = socket.socketpair()
    with here, there:
        there.sendall(b'{"process": 1, "host": "a", "token": 7}\n')
        with pytest.raises(ConnectionError, match="not a process of this training"):
            peers._greet(peers._Peer(here), {"token": 8})


def test_one_process_has_none_to_watch():
    before = threading.active_count()
    with (
        pytest.raises(KeyError),
        watched_processes(pytest.fail, pytest.fail) as watch,
        watch.telling(),
    ):
        assert threading.active_count() == before
        raise KeyError("its own")


def test_interrupted_and_other_errors_in_words():
    assert peers._in_words(KeyboardInterrupt()) == ("interrupted", 130)
    assert peers._in_words(ValueError("a\nb")) == ("ValueError: a", 1)
    assert peers._in_words(NonFiniteError("no number")) == ("no number", 3)


@pytest.fixture
def two():
    """Two processes that watch each other."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            env=os.environ
            | {
                "JAX_PLATFORMS": "cpu",
                "MEMZOO_DISTRIBUTED": f"localhost:{port},{index},2",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    for process in started:
        assert "watching\n" in iter(process.stdout.readline, "")
    yield started
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_is_named_within_seconds(two, killed):
    two[killed].send_signal(signal.SIGKILL)
    left = two[1 - killed]
    assert left.wait(timeout=30) == 1
    assert left.stdout.read() == "stopped\n"
    host = socket.gethostname()
    assert (
        left.stderr.read()
        .splitlines()[-1]
        .startswith(f"memzoo: process {killed} on host {host} is lost: ")
    )


def test_an_error_in_one_process_ends_both_within_seconds(two):
    two[0].stdin.write("fail\n")
    two[0].stdin.flush()
    for process in two:
        process.wait(timeout=30)
        assert process.returncode == 1
    last = [process.stderr.read().splitlines()[-1] for process in two]
    assert last[0] == "RuntimeError: of its own"
    assert last[1].endswith(
        "process 0 on host " + socket.gethostname() + " has "
        "stopped: RuntimeError: of its own"
    )
