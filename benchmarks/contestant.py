"""Processes that run one side of a benchmark through all rounds."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from memzoo.errors import MemzooError

from .cases import OURS, Device, Side
from .environments import interpreter

# On all sides, freed memory stays with the process, as in our command line
# (train/allocator.py). Otherwise page faults would be measured.
KEEP_MEMORY = MappingProxyType(
    {
        "MALLOC_MMAP_THRESHOLD_": str(2**30),
        "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
        "MALLOC_TOP_PAD_": str(2**26),
        "MALLOC_ARENA_MAX": "1",
    }
)

# Freed memory returns to the system at once, so that resident memory is memory in use.
# This is slow, so it is never used while time is measured.
RETURN_MEMORY = MappingProxyType(
    {
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "65536",
        "MALLOC_MMAP_MAX_": "1000000",
        "MALLOC_TOP_PAD_": "0",
        "MKL_DISABLE_FAST_MM": "1",
    }
)

# For all sides. On a GPU no process may reserve more memory than it needs.
DEVICES: Mapping[Device, Mapping[str, str]] = MappingProxyType(
    {
        "cpu": {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""},
        "gpu": {"JAX_PLATFORMS": "cuda,cpu", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
    }
)

_FOLDER = Path(__file__).parent
WORKERS: Mapping[Side, Path] = MappingProxyType({"jla": _FOLDER / "worker_jla.py"})
WORKER_TORCH = _FOLDER / "worker_torch.py"
"""Worker of every other peer."""


class ContestantError(MemzooError):
    """Failure of a contestant to answer a request."""


class Contestant:
    """Process that answers requests over its standard input and output."""

    def __init__(
        self,
        name: str,
        command: list[str],
        cores: frozenset[int],
        variables: Mapping[str, str] = MappingProxyType({}),
        device: Device = "cpu",
    ) -> None:
        """Start the process on the given cores, with as many threads.

        Args:
            name: name in messages.
            command: command to run; see `side_command`.
            cores: cores of the process and its threads, if the system can pin.
            variables: variables for its environment, such as `RETURN_MEMORY`.
            device: device that it computes on.
        """
        self.name = name
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        with pinned(cores):
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                env=_environment(len(cores), device) | dict(variables),
            )

    def __enter__(self) -> "Contestant":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def ask(self, command: str, **fields: Any) -> dict[str, Any]:
        """Send a request and return the answer.

        Raises:
            ContestantError: the process ended, or answered with an error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"command": command, **fields}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            # A process that has closed its output is about to end.
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)
            raise ContestantError(
                f"the benchmark process of {self.name} ended: {self._last_words()}"
            )
        answer = json.loads(line)
        if "error" in answer:
            what = " ".join([command, *([fields["name"]] if "name" in fields else [])])
            raise ContestantError(f"{self.name}, asked to {what}: {answer['error']}")
        return answer

    @property
    def ended(self) -> bool:
        """Status of the process: True after it has ended."""
        return self._process.poll() is not None

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            # A dead process cannot read the buffered request.
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().strip().splitlines()
        return lines[-1] if lines else f"exit code {self._process.wait()}"


def side_command(folder: Path, side: Side, threads: int, device: Device) -> list[str]:
    """Return the command of a side; a peer runs in its own, isolated environment."""
    if side == OURS:
        return [sys.executable, "-m", "memzoo.benchmarks.worker_jax", device]
    worker = str(WORKERS.get(side, WORKER_TORCH))
    return [str(interpreter(folder, side)), "-I", worker, side, str(threads), device]


def keep_compiled(folder: Path) -> dict[str, str]:
    """Return variables that let processes share compiled programs."""
    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    return {
        "JAX_COMPILATION_CACHE_DIR": chosen or str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


@contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """Keep processes started inside on the given cores, if the system can pin."""
    if not can_pin():
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def can_pin() -> bool:
    """Return whether the system can pin a process to a core."""
    return hasattr(os, "sched_setaffinity")


def usable_cores() -> frozenset[int]:
    """Return the cores that this process may run on."""
    if can_pin():
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _environment(threads: int, device: Device) -> dict[str, str]:
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        **DEVICES[device],
        **KEEP_MEMORY,
    }
