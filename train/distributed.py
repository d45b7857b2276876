"""Several processes that train one model, only on explicit request."""

import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from memzoo.errors import InputError, MemzooError

from ..configs.comma_list import split_list

VARIABLE = "MEMZOO_DISTRIBUTED"

# JAX raises these about addresses, about missing or unreadable variables of clusters
# (SLURM_*, JAX_*), and if the other processes do not answer.
_REFUSALS = (RuntimeError, ValueError, TypeError, LookupError)

# Seconds; after 300, JAX would end the process from C++ with a stack trace.
_PATIENCE = 285.0


def join_processes(value: str | None = None) -> bool:
    """Join the other processes, if asked to; return whether it did. Call it first of
    all.

    Args:
        value: `HOST:PORT,INDEX,COUNT`: address of process 0, number of this process,
            number of processes; `auto`: JAX finds out (Slurm, TPU pods, Open MPI,
            Kubernetes); empty: train alone. `None`: the environment variable
            MEMZOO_DISTRIBUTED.

    Raises:
        InputError: the value cannot be parsed, or the host is unknown.
        MemzooError: JAX finds no other processes, or cannot join.
    """
    value = os.environ.get(VARIABLE, "") if value is None else value
    if not value:
        return False
    if value == "auto":
        try:
            with _patiently("the coordinator that JAX has found"):
                jax.distributed.initialize()
        except _REFUSALS as error:
            raise MemzooError(
                f"cannot find the other processes ({_one_line(error)}); "
                "start the command under Slurm, MPI or on a TPU pod, or set "
                f"{VARIABLE}=HOST:PORT,INDEX,COUNT"
            ) from error
        return True
    address, index, count = _parse(value)
    try:
        with _patiently(f"{address} (process {index} of {count} is here)"):
            jax.distributed.initialize(address, count, index)
    except _REFUSALS as error:
        raise MemzooError(
            f"cannot join the other processes at {address} ({_one_line(error)}); see "
            "the README on several hosts"
        ) from error
    return True


def _parse(value: str) -> tuple[str, int, int]:
    """Return address, index and count.

    Raises:
        InputError: names what is wrong.
    """
    said = f"{VARIABLE} is {value!r}"
    try:
        address, *numbers = split_list(value)
        index, count = map(int, numbers)
    except ValueError:
        raise InputError(f"{said}; give HOST:PORT,INDEX,COUNT or auto") from None
    found = re.fullmatch(r"(\[[^][]+\]|[^][:/@]+):([0-9]{1,5})", address)
    if not found or not 1 <= int(found.group(2)) < 2**16:
        raise InputError(
            f"{said}, whose {address!r} is not HOST:PORT; give the host of process 0 "
            "and a port from 1 to 65535, such as 10.0.0.1:1234"
        )
    if not 0 <= index < count:
        raise InputError(
            f"{said}; INDEX is {index} and COUNT {count}: number the processes from 0 "
            "to COUNT - 1"
        )
    try:
        socket.getaddrinfo(found.group(1).strip("[]"), None)
    except (OSError, UnicodeError) as error:
        # JAX would try for minutes.
        raise InputError(
            f"{said}, and the host of {address} is unknown ({_one_line(error)}); "
            "give the name or IP address of the machine of process 0"
        ) from error
    return address, index, count


def _one_line(error: BaseException) -> str:
    said = getattr(error, "strerror", None) or " ".join(map(str, error.args))
    # A KeyError about a missing variable contains only the name.
    named = not said or isinstance(error, LookupError)
    said = f"{type(error).__name__}: {said}" if named else said
    return " ".join(said.split())


@contextmanager
def _patiently(where: str) -> Iterator[None]:
    """End the process with a line if the other processes do not join in time."""

    def give_up() -> None:
        sys.stdout.flush()
        said = (
            f"memzoo: after {_PATIENCE:.0f} s not all processes met at {where}; "
            "start all of them, and check that they can reach that address\n"
        )
        os.write(2, said.encode())
        os._exit(1)

    timer = threading.Timer(_PATIENCE, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
