"""Several processes that train one model; asked for explicitly, never guessed."""

import os

import jax

from ..configs.errors import MemzooError

VARIABLE = "MEMZOO_DISTRIBUTED"


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
    jax.distributed.initialize(address, numbers[1], numbers[0])
    return True
