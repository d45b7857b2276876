"""Watch over the other processes of a training; a lost one is named immediately.

JAX takes a minute to notice that a process has gone. Meanwhile the others wait for it
in a collective, until JAX ends them from C++ with a stack trace. So each process keeps
a connection to process 0 while it trains. The system closes the connection when a
process ends, and process 0 tells all the others.
"""

import ctypes
import json
import os
import secrets
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from memzoo.errors import MemzooError

LOST = 1
"""Exit code of the remaining processes."""

# Seconds. JAX ends a process itself about 60 s after another one falls silent.
_JOIN = 60.0
_PING = 5.0
_SILENT = 40.0
# If all processes have the same error, each reports it itself.
_GRACE = 3.0
_VERDICT = 2.0

_LONGEST = 4096

Message = dict[str, Any]


class _Peer:
    """Other end of a connection."""

    def __init__(self, link: socket.socket, process: int = -1, host: str = "?") -> None:
        self.link = link
        self.process = process
        self.host = host
        self.ended = False
        self.heard = time.monotonic()
        self._text = b""
        self._sending = threading.Lock()

    def send(self, message: Message) -> None:
        """Send a message; a closed connection is noticed when reading."""
        with suppress(OSError), self._sending:
            self.link.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[Message] | None:
        """Return the complete messages received; `None` once the connection is
        closed.
        """
        try:
            text = self.link.recv(_LONGEST)
        except OSError:
            text = b""
        if not text:
            return None
        self.heard = time.monotonic()
        *lines, self._text = (self._text + text).split(b"\n")
        return [m for m in map(_parse, lines) if m]


class Watch:
    """One process's view of the others.

    Args:
        process: index of this process.
        peers: for process 0 all other processes, for the others process 0.
        on_stop: called before another process's end ends this one.
    """

    def __init__(
        self, process: int, peers: list[_Peer], on_stop: Callable[[], None]
    ) -> None:
        self._process = process
        self._host = socket.gethostname()
        self._peers = peers
        self._on_stop = on_stop
        self._own: Message | None = None
        self._lost = False
        self._heard = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        if peers:
            self._thread.start()

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Tell the others of an error that leaves this context."""
        try:
            yield
        except BaseException as error:
            self.failed(error)
            raise

    def done(self) -> None:
        """Tell the others that this process has finished training."""
        self._tell({"end": "done"})

    def failed(self, error: BaseException) -> None:
        """Tell the others which error ends this process; do not wait for them later.

        Does not return if the error is a consequence of another process's end.
        """
        if self._own is not None or not self._peers:
            return
        theirs = isinstance(error, Exception) and not _of_this_process(error)
        if self._lost or (theirs and self._heard.wait(_VERDICT)):
            threading.Event().wait()  # the watching thread ends the process
        line, code = _in_words(error)
        self._tell({"end": "failed", "line": line, "code": code})
        threading.Thread(target=self._leave, args=(code,), daemon=True).start()

    def _tell(self, message: Message) -> None:
        self._own = message | {"process": self._process, "host": self._host}
        for peer in self._peers:
            peer.send(self._own)

    def _leave(self, code: int) -> None:
        """End the process when its main thread ends: JAX would wait for the others."""
        threading.main_thread().join()
        if self._process == 0:
            # The others need process 0's service until they have ended.
            limit = time.monotonic() + _GRACE + _VERDICT
            while self._thread.is_alive() and time.monotonic() < limit:
                self._thread.join(0.1)
        _exit(code)

    def _run(self) -> None:
        """Listen until no other process is left."""
        peers = list(self._peers)
        pinged = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for peer in peers:
                selector.register(peer.link, selectors.EVENT_READ, peer)
            while peers:
                wait = max(pinged + _PING - time.monotonic(), 0.0)
                ready = [key.data for key, _ in selector.select(wait)]
                now = time.monotonic()
                if now - pinged > 2 * _PING:  # this process was stopped itself
                    for peer in peers:
                        peer.heard = now
                if now - pinged >= _PING:
                    pinged = now
                    for peer in peers:
                        peer.send({})
                for peer in list(peers):
                    messages: list[Message] | None = []
                    if peer in ready:
                        messages = peer.receive()
                    elif now - peer.heard > _SILENT:
                        messages = None
                    if messages is None:
                        selector.unregister(peer.link)
                        peers.remove(peer)
                    self._hear(peer, messages)

    def _hear(self, peer: _Peer, messages: list[Message] | None) -> None:
        if messages is None and not peer.ended:
            lost = {"process": peer.process, "host": peer.host, "end": "lost"}
            peer.ended = True
            messages = [lost]
        for message in messages or []:
            if message.get("process") == peer.process:
                peer.ended = peer.ended or "end" in message
            if message.get("end") in ("lost", "failed"):
                self._forward(peer, message)
                self._stop(message)

    def _forward(self, sender: _Peer, message: Message) -> None:
        for peer in self._peers:
            if self._process == 0 and peer is not sender:
                peer.send(message)

    def _fails(self) -> bool:
        return self._own is not None and self._own["end"] == "failed"

    def _stop(self, message: Message) -> None:
        """End this process because another one ended, unless it ends by itself.

        A process that is done ends too: at exit, JAX would wait for the other one.
        """
        if self._fails():
            return
        who = f"process {message.get('process')} on host {message.get('host')}"
        self._lost = message["end"] == "lost"
        self._heard.set()
        if self._lost:
            time.sleep(1.0)  # JAX's words on it come before ours
            line, code = (
                (
                    f"{who} is lost: it was killed, or its host or network has failed; "
                    "start the command again in every process: it continues from the "
                    "last checkpoint"
                ),
                LOST,
            )
        else:
            time.sleep(_GRACE)
            line, code = (
                f"{who} has stopped: {message.get('line')}",
                message.get("code"),
            )
        if self._fails():
            return
        if self._own is None:
            with suppress(Exception):
                self._on_stop()
        if self._process == 0:
            time.sleep(0.5)  # the others need its service until they have ended
        _exit(code if isinstance(code, int) else LOST, f"memzoo: {line}\n")


@contextmanager
def watched_processes(
    on_stop: Callable[[], None], report: Callable[[str], None]
) -> Iterator[Watch]:
    """Watch the other processes of jax.distributed, if there are any.

    If another process is lost, or fails alone, end this one with a line that names it:
    an exception could not leave a collective that waits.

    Args:
        on_stop: called before this process ends.
        report: called with a line if process 0 cannot be reached.
    """
    if jax.process_count() == 1:
        yield Watch(0, [], on_stop)
        return
    peers, reason = _connect()
    if reason:
        report(
            f"the other processes cannot be watched ({reason}); JAX will notice a "
            "lost one after a minute"
        )
    watch = Watch(jax.process_index(), peers, on_stop)
    _slow_aborts()
    with watch.telling():
        yield watch
    watch.done()


def _connect() -> tuple[list[_Peer], str]:
    """Return connections to process 0, or from all others, or why there are none."""
    first = jax.process_index() == 0
    server = _listen() if first else None
    port = server.getsockname()[1] if server else 0
    token = secrets.randbits(31)
    told = np.asarray([port, token], np.int32)
    port, token = multihost_utils.broadcast_one_to_all(told).tolist()
    hello = {
        "process": jax.process_index(),
        "host": socket.gethostname(),
        "token": token,
    }
    if server is not None:
        with server:
            return _accept(server, hello), ""
    try:
        link = socket.create_connection((_coordinator(), port), timeout=_JOIN)
        peer = _Peer(link)
        peer.send(hello)
        _greet(peer, hello)
    except OSError as error:
        return [], f"{_coordinator()}:{port}: {error.strerror or error}"
    return [peer], ""


def _listen() -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(
            ("", 0), family=socket.AF_INET6, dualstack_ipv6=True
        )
    return socket.create_server(("", 0))


def _accept(server: socket.socket, hello: Message) -> list[_Peer]:
    """Return the other processes that connect within a minute."""
    peers: list[_Peer] = []
    limit = time.monotonic() + _JOIN
    while len(peers) < jax.process_count() - 1 and time.monotonic() < limit:
        server.settimeout(max(limit - time.monotonic(), 0.01))
        try:
            peer = _Peer(server.accept()[0])
            peer.link.settimeout(_PING)
            _greet(peer, hello)
        except OSError:
            continue
        peer.send(hello)
        peers.append(peer)
    return peers


def _greet(peer: _Peer, hello: Message) -> None:
    """Wait for the other end to identify itself.

    Raises:
        OSError: it does not, or belongs to another training.
    """
    messages: list[Message] | None = []
    while messages == []:
        messages = peer.receive()
    if not messages or messages[0].get("token") != hello["token"]:
        raise ConnectionError("it is not a process of this training")
    peer.process, peer.host = messages[0]["process"], messages[0]["host"]
    peer.link.settimeout(None)


def _coordinator() -> str:
    """Return name or address of process 0's host; JAX has no public name for it."""
    from jax._src.distributed import global_state

    address = global_state.coordinator_address or "localhost"
    return address.rsplit(":", 1)[0].strip("[]")


def _of_this_process(error: BaseException) -> bool:
    """Return whether the error is more than JAX's view of another process's end."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, jax.errors.JaxRuntimeError):
        cause = cause.__cause__
    return cause is None and isinstance(error, MemzooError)


def _in_words(error: BaseException) -> tuple[str, int]:
    """Return an error as one line, and the exit code of the process that it ends."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 128 + signal.SIGINT
    lines = str(error).strip().splitlines() or [""]
    if isinstance(error, MemzooError):
        return lines[0][:500], error.exit_code
    return f"{type(error).__name__}: {lines[0][:500]}", LOST


def _parse(line: bytes) -> Message | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def _slow_aborts() -> None:
    """Make abort() sleep for six seconds before it ends this process.

    If process 0 is lost, JAX immediately calls abort() in a thread of its own. C's
    `sleep` becomes the handler of SIGABRT: it takes a number, and the number of SIGABRT
    is 6. Other threads keep running meanwhile and can report what happened.
    """
    if os.name != "posix":
        return
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))


def _exit(code: int, line: str = "") -> None:
    """End the process now, with this line as its last one."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    with suppress(OSError):
        os.write(2, line.encode())
    os._exit(code)
