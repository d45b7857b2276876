"""How a matrix memory is written: each rule in its fast and its recurrent form."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int

from .memory_inputs import MemoryInputs
from .ops.delta_rule import delta_rule_chunkwise, delta_rule_step
from .ops.scalar_decay import scalar_decay_chunkwise, scalar_decay_step
from .ops.scalar_decay_write import scalar_decay_write
from .ops.taylor_attention import (
    taylor_attention_chunkwise,
    taylor_attention_step,
    taylor_attention_write,
)

Memory = Float[Array, "b h k v"]
Memories = Float[Array, "b m h k v"]
Read = Float[Array, "b t h v"]
Which = Int[Array, "b n"]


class UpdateRule(NamedTuple):
    """One rule; its forms are the same map.

    Attributes:
        sequence: (inputs, memory, reset, chunk_size) -> (read, memory).
        token: (inputs with t = 1, memory) -> (read, memory).
        write_alone: (inputs, memory) -> memory, where that is faster than `sequence`.
        several: (inputs, memories, which, reset, chunk_size) -> (read, memories), with
            several memories a row and `which` naming that of each chunk. None: the
            rule has no such form.
    """

    sequence: Callable[
        [MemoryInputs, Memory, Bool[Array, "b t"] | None, int | None],
        tuple[Read, Memory],
    ]
    token: Callable[[MemoryInputs, Memory], tuple[Read, Memory]]
    write_alone: Callable[[MemoryInputs, Memory], Memory] | None = None
    several: (
        Callable[
            [MemoryInputs, Memories, Which, Bool[Array, "b t"] | None, int],
            tuple[Read, Memories],
        ]
        | None
    ) = None

    def write(
        self, inputs: MemoryInputs, memory: Memory, chunk_size: int | None
    ) -> Memory:
        """The memory after all tokens, which are not read."""
        if self.write_alone is not None:
            return self.write_alone(inputs, memory)
        return self.sequence(inputs, memory, None, chunk_size)[1]


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


def _scalar_decay_several(
    inputs: MemoryInputs,
    memories: Memories,
    which: Which,
    reset: Bool[Array, "b t"] | None,
    chunk_size: int,
) -> tuple[Read, Memories]:
    return scalar_decay_chunkwise(
        inputs.query,
        inputs.key,
        inputs.value,
        inputs.log_decay,
        memories,
        reset=reset,
        chunk_size=chunk_size,
        which=which,
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


def _scalar_decay_write(inputs: MemoryInputs, memory: Memory) -> Memory:
    return scalar_decay_write(inputs.key, inputs.value, inputs.log_decay, memory)


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


def _delta_several(
    inputs: MemoryInputs,
    memories: Memories,
    which: Which,
    reset: Bool[Array, "b t"] | None,
    chunk_size: int,
) -> tuple[Read, Memories]:
    return delta_rule_chunkwise(
        inputs.query,
        inputs.key,
        inputs.value,
        _strength(inputs),
        inputs.log_decay,
        memories,
        reset=reset,
        chunk_size=chunk_size,
        which=which,
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


def _taylor(
    inputs: MemoryInputs,
    memory: Memory,
    reset: Bool[Array, "b t"] | None,
    chunk_size: int | None,
) -> tuple[Read, Memory]:
    return taylor_attention_chunkwise(
        inputs.query,
        inputs.key,
        inputs.value,
        memory,
        reset=reset,
        chunk_size=chunk_size,
    )


def _taylor_token(inputs: MemoryInputs, memory: Memory) -> tuple[Read, Memory]:
    read, memory = taylor_attention_step(
        inputs.query[:, 0], inputs.key[:, 0], inputs.value[:, 0], memory
    )
    return read[:, None], memory


def _taylor_write(inputs: MemoryInputs, memory: Memory) -> Memory:
    return taylor_attention_write(inputs.key, inputs.value, memory)


SCALAR_DECAY = UpdateRule(
    _scalar_decay, _scalar_decay_token, _scalar_decay_write, _scalar_decay_several
)
# Queries and keys before the feature map, which the operation applies.
TAYLOR = UpdateRule(_taylor, _taylor_token, _taylor_write)
DELTA = UpdateRule(_delta, _delta_token, several=_delta_several)
