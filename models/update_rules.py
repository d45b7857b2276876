"""How a matrix memory is written: each rule in its fast and its recurrent form."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array, Bool, Float

from .memory_inputs import MemoryInputs
from .ops.delta_rule import delta_rule_chunkwise, delta_rule_step
from .ops.scalar_decay import scalar_decay_chunkwise, scalar_decay_step

Memory = Float[Array, "b h k v"]
Read = Float[Array, "b t h v"]


class UpdateRule(NamedTuple):
    """One rule; both forms are the same map.

    Attributes:
        sequence: (inputs, memory, reset, chunk_size) -> (read, memory).
        token: (inputs with t = 1, memory) -> (read, memory).
    """

    sequence: Callable[
        [MemoryInputs, Memory, Bool[Array, "b t"] | None, int | None],
        tuple[Read, Memory],
    ]
    token: Callable[[MemoryInputs, Memory], tuple[Read, Memory]]


def _at(a: Array | None) -> Array | None:
    return None if a is None else a[:, 0]


def _strength(inputs: MemoryInputs) -> Array:
    if inputs.write_strength is None:
        raise ValueError(
            "the delta rule needs a write strength; give MemoryInputs one, or write "
            "by SCALAR_DECAY"
        )
    return inputs.write_strength


def _scalar_decay(
    inputs: MemoryInputs,
    memory: Memory,
    reset: Bool[Array, "b t"] | None,
    chunk_size: int | None,
) -> tuple[Read, Memory]:
    return scalar_decay_chunkwise(
        inputs.query,
        inputs.key,
        inputs.value,
        inputs.log_decay,
        memory,
        reset=reset,
        chunk_size=chunk_size,
    )


def _scalar_decay_token(inputs: MemoryInputs, memory: Memory) -> tuple[Read, Memory]:
    read, memory = scalar_decay_step(
        inputs.query[:, 0],
        inputs.key[:, 0],
        inputs.value[:, 0],
        _at(inputs.log_decay),
        memory,
    )
    return read[:, None], memory


def _delta(
    inputs: MemoryInputs,
    memory: Memory,
    reset: Bool[Array, "b t"] | None,
    chunk_size: int | None,
) -> tuple[Read, Memory]:
    return delta_rule_chunkwise(
        inputs.query,
        inputs.key,
        inputs.value,
        _strength(inputs),
        inputs.log_decay,
        memory,
        reset=reset,
        chunk_size=chunk_size,
    )


def _delta_token(inputs: MemoryInputs, memory: Memory) -> tuple[Read, Memory]:
    read, memory = delta_rule_step(
        inputs.query[:, 0],
        inputs.key[:, 0],
        inputs.value[:, 0],
        _strength(inputs)[:, 0],
        _at(inputs.log_decay),
        memory,
    )
    return read[:, None], memory


SCALAR_DECAY = UpdateRule(_scalar_decay, _scalar_decay_token)
DELTA = UpdateRule(_delta, _delta_token)
