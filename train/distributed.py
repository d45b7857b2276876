"""Several processes that train one model; asked for explicitly, never guessed."""

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

# What JAX raises over addresses, over variables of clusters (SLURM_*, JAX_*) that are
# missing or cannot be read, and where the others do not answer.
_REFUSALS = (RuntimeError, ValueError, TypeError, LookupError)

# Seconds; after 300 JAX ends the process from C++ with a stack.
_PATIENCE = 285.0


def join_processes(value: str | None = None) -> bool:
    """This process has joined the others, if it was asked to; call it first of all.

    Args:
        value: `HOST:PORT,INDEX,COUNT`: where process 0 listens, the number of this
            process and how many there are; `auto`: JAX finds out (Slurm, TPU pods,
            Open MPI, Kubernetes); empty: it trains alone. `None`: what the environment
            variable MEMZOO_DISTRIBUTED says.

    Raises:
        InputError: the value cannot be read, or nobody knows the host.
        MemzooError: JAX does not find out, or cannot join.
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
    """Address, index and count.

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
            f"{said}, whose {address!r} is no HOST:PORT; give the host of process 0 "
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
            f"{said}, and the host of {address} is not known ({_one_line(error)}); "
            "give the name or number of the machine of process 0"
        ) from error
    return address, index, count


def _one_line(error: BaseException) -> str:
    said = getattr(error, "strerror", None) or " ".join(map(str, error.args))
    # Of a variable that is missing, a KeyError says the name alone.
    named = not said or isinstance(error, LookupError)
    said = f"{type(error).__name__}: {said}" if named else said
    return " ".join(said.split())


@contextmanager
def _patiently(where: str) -> Iterator[None]:
    """End the process with a line where the others do not come."""

    def give_up() -> None:
        sys.stdout.flush()
        said = (
            f"memzoo: after {_PATIENCE:.0f} s not all processes have met at {where}; "
            "start all of them, and see that they can reach that address\n"
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
