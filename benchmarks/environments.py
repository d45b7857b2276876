"""Virtual environments of the peers, one each, separate from ours."""

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from memzoo.errors import MemzooError

from .cases import Side

REQUIREMENTS = Path(__file__).parent / "peers"
# Peers that need a newer Python than memzoo.
OLDEST_PYTHON: Mapping[Side, tuple[int, int]] = MappingProxyType({"jla": (3, 12)})


class PeerMissingError(MemzooError):
    """Missing or outdated environment of a peer."""


def interpreter(folder: Path, peer: Side) -> Path:
    """Return the path of the interpreter in the peer's environment."""
    scripts = "Scripts/python.exe" if os.name == "nt" else "bin/python"
    return folder / peer / scripts


def is_ready(folder: Path, peer: Side) -> bool:
    """Return whether the peer's environment was made from the current pins."""
    stamp = _stamp(folder, peer)
    return stamp.is_file() and stamp.read_text() == _digest(peer)


def require(folder: Path, peers: Iterable[Side]) -> None:
    """Check that every peer is ready.

    Raises:
        PeerMissingError: a peer is not ready.
    """
    missing = [peer for peer in peers if not is_ready(folder, peer)]
    if missing:
        raise PeerMissingError(
            f"no environment for {', '.join(missing)} under {folder}; "
            "run `memzoo bench` with --prepare first (minutes: it downloads PyTorch)"
        )


def prepare(
    folder: Path,
    peers: Iterable[Side],
    python: str,
    announce: Callable[[str], None],
) -> None:
    """Make the environments of the peers, except those that are ready.

    Args:
        folder: folder with one environment per peer.
        python: interpreter for the environments.
        announce: called with one line about each step.

    Raises:
        PeerMissingError: an environment could not be made.
    """
    for peer in peers:
        if is_ready(folder, peer):
            announce(f"{peer}: ready")
            continue
        _check_python(peer, python)
        announce(f"{peer}: making {folder / peer}")
        _run(peer, [python, "-m", "venv", "--clear", str(folder / peer)])
        announce(f"{peer}: installing {REQUIREMENTS / peer}.txt")
        pip = [str(interpreter(folder, peer)), "-m", "pip"]
        _run(peer, [*pip, "install", "-q", "-r", str(REQUIREMENTS / f"{peer}.txt")])
        _stamp(folder, peer).write_text(_digest(peer))
        announce(f"{peer}: ready")


def _check_python(peer: Side, python: str) -> None:
    """Refuse an interpreter that is too old for the peer."""
    oldest = OLDEST_PYTHON.get(peer)
    if oldest is None:
        return
    code = "import sys; print(*sys.version_info[:2])"
    found = tuple(map(int, _run(peer, [python, "-c", code]).split()))
    if found < oldest:
        raise PeerMissingError(
            f"{peer} needs Python {oldest[0]}.{oldest[1]} or newer, but {python} is "
            f"{found[0]}.{found[1]}; give --python a newer interpreter"
        )


def _run(peer: Side, command: list[str]) -> str:
    """Run the command and return its output."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise PeerMissingError(f"cannot run {command[0]}: {error.strerror}") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise PeerMissingError(
            f"the environment of {peer} could not be made: {lines[-1]}; "
            f"run it by hand: {' '.join(command)}"
        )
    return done.stdout


def _stamp(folder: Path, peer: Side) -> Path:
    return folder / peer / "made-from"


def _digest(peer: Side) -> str:
    text = (REQUIREMENTS / f"{peer}.txt").read_bytes()
    return hashlib.sha256(text).hexdigest()
