"""Several processes that train one model; asked for explicitly, never guessed."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from ..configs.errors import MemzooError

VARIABLE = "MEMZOO_DISTRIBUTED"

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
        ValueError: the value cannot be read.
        MemzooError: JAX does not find out.
    """
    value = os.environ.get(VARIABLE, "") if value is None else value
    if not value:
        return False
    if value == "auto":
        try:
            with _patiently("the coordinator that JAX has found"):
                jax.distributed.initialize()
        except (RuntimeError, ValueError) as error:
            raise MemzooError(
                f"cannot find the other processes ({' '.join(str(error).split())}); "
                "start the command under Slurm, MPI or on a TPU pod, or set "
                f"{VARIABLE}=HOST:PORT,INDEX,COUNT"
            ) from error
        return True
    try:
        address, index, count = value.split(",")
        numbers = int(index), int(count)
    except ValueError:
        raise ValueError(
            f"{VARIABLE} is {value!r}; give HOST:PORT,INDEX,COUNT or auto"
        ) from None
    with _patiently(f"{address} (process {index} of {count} is here)"):
        jax.distributed.initialize(address, numbers[1], numbers[0])
    return True


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
