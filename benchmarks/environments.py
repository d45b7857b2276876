"""The peers' environments: one virtual environment each, apart from ours."""

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from memzoo.errors import MemzooError

from .cases import Peer

REQUIREMENTS = Path(__file__).parent / "peers"


class PeerMissingError(MemzooError):
    """A peer's environment has not been made, or is out of date."""


def interpreter(folder: Path, peer: Peer) -> Path:
    """Where the peer's interpreter lies once its environment is made."""
    scripts = "Scripts/python.exe" if os.name == "nt" else "bin/python"
    return folder / peer / scripts


def is_ready(folder: Path, peer: Peer) -> bool:
    """Whether the peer's environment was made from the pins of today."""
    stamp = _stamp(folder, peer)
    return stamp.is_file() and stamp.read_text() == _digest(peer)


def require(folder: Path, peers: Iterable[Peer]) -> None:
    """Return if every peer is ready.

    Raises:
        PeerMissingError: one is not.
    """
    missing = [peer for peer in peers if not is_ready(folder, peer)]
    if missing:
        raise PeerMissingError(
            f"no environment for {', '.join(missing)} under {folder}; "
            "run `memzoo bench` with --prepare first (minutes: it downloads PyTorch)"
        )


def prepare(
    folder: Path,
    peers: Iterable[Peer],
    python: str,
    announce: Callable[[str], None],
) -> None:
    """Every peer has its environment; those that are ready are left alone.

    Args:
        folder: holds one environment a peer.
        python: interpreter that the environments are made with.
        announce: told what is being done, one line each.

    Raises:
        PeerMissingError: an environment could not be made.
    """
    for peer in peers:
        if is_ready(folder, peer):
            announce(f"{peer}: ready")
            continue
        announce(f"{peer}: making {folder / peer}")
        _run(peer, [python, "-m", "venv", "--clear", str(folder / peer)])
        announce(f"{peer}: installing {REQUIREMENTS / peer}.txt")
        pip = [str(interpreter(folder, peer)), "-m", "pip"]
        _run(peer, [*pip, "install", "-q", "-r", str(REQUIREMENTS / f"{peer}.txt")])
        _stamp(folder, peer).write_text(_digest(peer))
        announce(f"{peer}: ready")


def _run(peer: Peer, command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise PeerMissingError(f"cannot run {command[0]}: {error.strerror}") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise PeerMissingError(
            f"the environment of {peer} could not be made: {lines[-1]}; "
            f"try by hand: {' '.join(command)}"
        )


def _stamp(folder: Path, peer: Peer) -> Path:
    return folder / peer / "made-from"


def _digest(peer: Peer) -> str:
    text = (REQUIREMENTS / f"{peer}.txt").read_bytes()
    return hashlib.sha256(text).hexdigest()
