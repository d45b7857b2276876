"""Writes of whole windows, which the tokens of later windows read (LaCT).

All tokens of a window read the weights before it. Their gradients, at those weights,
are summed, and `open_window` applies the sum when the next window begins.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .fast_gradients import product, scale_rows
from .memory_network import MemoryNetwork, Plain, SlowWeights, Weights
from .neural_memory_chunk import gradient_factors
from .recurrence import select
from .windows import Part
from .write_rule import (
    NeuralMemory,
    Pending,
    WriteRule,
    memory_type,
    open_window,
)


class LaggedTokens(NamedTuple):
    """Tokens of a part, heads before tokens; rates have an axis of matrices."""

    query: Float[Array, "b h c k"]
    key: Float[Array, "b h c k"]
    value: Float[Array, "b h c v"]
    rate: Float[Array, "b h c r"]
    momentum: Float[Array, "b h c"] | None


def prepare_lagged(tokens: Any, part: Part, *, dtype: DTypeLike) -> LaggedTokens:
    """Prepare a part's tokens; slots without a token are zero, and so is their rate."""
    del part
    q, k, v = (jnp.moveaxis(x, 2, 1) for x in tokens[:3])
    gates = tokens.gates
    rate = jnp.moveaxis(gates.learning_rate.astype(dtype), 2, 1)
    momentum = None
    if gates.momentum is not None:
        momentum = jnp.moveaxis(gates.momentum.astype(dtype), 2, 1)
    return LaggedTokens(q, k, v, rate, momentum)


def with_token(
    pending: Pending,
    gradient: Weights,
    rate: Float[Array, "b h r"],
    momentum: Float[Array, "b h"] | None,
    network: MemoryNetwork,
) -> Pending:
    """Return the pending write with the gradient of one token."""
    total = dict(pending.step)
    for i, name in enumerate(network.matrices()):
        total[name] = total[name] - rate[:, :, i, None, None] * gradient[name]
    share = pending.momentum if momentum is None else pending.momentum + momentum
    return Pending(total, share)


def lagged_part(
    memory: NeuralMemory,
    tokens: LaggedTokens,
    part: Part,
    *,
    network: MemoryNetwork,
    rule: WriteRule,
    slow: SlowWeights | None,
    initial: NeuralMemory,
) -> tuple[NeuralMemory, Float[Array, "b c h v"]]:
    """Return the memory after the part, and each token's read; the body of a scan."""
    if part.fresh is not None:
        memory = select(part.fresh, initial._replace(position=memory.position), memory)
    window = part.place[:, 0] // rule.update_every
    memory = open_window(memory, part.opens, rule, initial.weights, window)
    assert memory.pending is not None
    operand, wide = tokens.value.dtype, memory_type(memory)
    query, key, value = (x.astype(wide) for x in tokens[:3])
    entered, left = gradient_factors(
        network, memory.weights, slow, key, value, rule, operand
    )
    step = dict(memory.pending.step)
    for i, name in enumerate(network.matrices()):
        rows = scale_rows(entered[name], -tokens.rate[..., i])
        added = product("bhck,bhcv->bhkv", rows, left[name], operand)
        step[name] = step[name] + added
    share = memory.pending.momentum
    if tokens.momentum is not None:
        share = share + jnp.sum(tokens.momentum, axis=-1)
    read = network(Plain(memory.weights, slow, operand), query)
    read = jnp.moveaxis(read, 1, 2).astype(operand)
    return memory._replace(pending=Pending(step, share)), read
