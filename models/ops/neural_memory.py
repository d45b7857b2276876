"""A network as memory, written by gradient steps with momentum and forgetting.

Titans (arXiv 2501.00663, equations 12 to 15): with the gradient

    u_t = grad_W ||f(W'; k_t) - v_t||^2

at the weights W' before the window of `update_every` tokens that contains t,

    S_t = eta_t S_(t-1) - theta_t u_t
    W_t = (1 - alpha_t) W_(t-1) + S_t
    o_t = f(W_t; q_t)

The chunkwise form never forms the weights after every token. The network uses every
weight in a product, so the weight's gradient is an outer product of its input and of
the loss's gradient for its output. Applying W_t to a query is a product with W_0, one
with S_0, and attention over the chunk's keys (docs/layers/titans_lmm.md).

Rules with Newton-Schulz steps or a link form the weights after every token; see
`formed_weights`. Lagged rules write once per window; see `lagged_writes`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from memzoo.errors import InputError

from .fast_gradients import keep_rows
from .inner_loss import inner_loss
from .lagged_writes import lagged_part, prepare_lagged, with_token
from .memory_network import MemoryNetwork, Plain, SlowWeights, Weights
from .neural_memory_chunk import prepare_part, write_part
from .places import places
from .recurrence import scan_steps
from .windows import Body, Part, window_scan
from .write_rule import (
    NeuralMemory,
    Recent,
    WriteRule,
    memory_type,
    open_window,
    orthogonalised,
    used_weights,
)
from .write_schedule import Gates

Carry = TypeVar("Carry")


class NeuralTokens(NamedTuple):
    """Tokens of a neural memory.

    Attributes:
        query: queries, inputs of the network.
        key: keys, normalised by the caller.
        value: values, the network's targets at the keys.
        gates: sizes of the step, of the momentum and of forgetting, and thresholds.
    """

    query: Float[Array, "b t h k"]
    key: Float[Array, "b t h k"]
    value: Float[Array, "b t h v"]
    gates: Gates


def read_memory(
    query: Float[Array, "b t h k"],
    weights: Weights,
    *,
    network: MemoryNetwork,
    slow: SlowWeights | None = None,
) -> Float[Array, "b t h v"]:
    """Return the values at the queries from the weights that the network uses."""
    dtype = next(iter(weights.values())).dtype
    x = jnp.moveaxis(query, 2, 1).astype(dtype)
    read = network(Plain(weights, slow, query.dtype), x)
    return jnp.moveaxis(read, 1, 2).astype(query.dtype)


def surprise(
    key: Float[Array, "b h k"],
    value: Float[Array, "b h v"],
    weights: Weights,
    *,
    network: MemoryNetwork,
    slow: SlowWeights | None = None,
) -> Float[Array, "b h"]:
    """Return ||f(W; k) - v||^2, the error of the memory at a token."""
    dtype = next(iter(weights.values())).dtype
    key, value = key.astype(dtype), value.astype(dtype)
    read = network(Plain(weights, slow, dtype), key[:, :, None])[:, :, 0]
    return jnp.sum(jnp.square(read - value), axis=-1)


def neural_memory_step(
    token: NeuralTokens,
    memory: NeuralMemory,
    *,
    network: MemoryNetwork,
    rule: WriteRule,
    slow: SlowWeights | None = None,
    initial: NeuralMemory | None = None,
) -> tuple[Float[Array, "b h v"], NeuralMemory]:
    """Return the read of one token, and the memory after it.

    Args:
        token: token, as arrays without axis t.
        memory: memory before the token. Its type is the type of all sums.
        network: map from keys to values whose weights are the memory.
        rule: rule of the writes.
        slow: weights of the network that are not part of the memory.
        initial: a new memory; required if the rule keeps row norms.

    Raises:
        InputError: the memory was made for a single call and has no anchor.
    """
    single = memory.anchor is None and memory.pending is None
    if single and rule.needs_anchor:
        raise InputError(
            "the memory was made for one call and cannot be continued; give "
            "max_length=1 or more to init_state, or to the call that begins the "
            "document"
        )
    dtype, out = memory_type(memory), token.value.dtype
    q, k, v, gates = jax.tree.map(lambda x: x.astype(dtype), token)
    place = memory.position % rule.update_every
    new = memory.weights if initial is None else initial.weights
    window = memory.position // rule.update_every
    memory = open_window(memory, place == 0, rule, new, window)
    anchor = memory.weights if memory.anchor is None else memory.anchor
    rate = gates.learning_rate
    if rule.scale_by_place:
        rate = rate / (1 + place[:, None]).astype(dtype)
    keys, values, counts, recent = _counted(k, v, memory, rule)

    def read(weights: Weights) -> Array:
        fast = Plain(used_weights(weights, rule), slow, dtype)
        return network(fast, q[:, :, None])[:, :, 0].astype(out)

    used = used_weights(anchor, rule)
    loss = partial(_loss, network, slow, rule, gates.threshold)
    total = _gradient(loss, used, keys, values, counts, rule)
    before = memory.weights
    if memory.pending is not None:
        pending = with_token(memory.pending, total, rate, gates.momentum, network)
        memory = memory._replace(pending=pending, position=memory.position + 1)
        return read(before), memory
    memory = _apply(memory, total, rate, gates, rule, anchor)
    memory = memory._replace(recent=recent, position=memory.position + 1)
    shown = {"after": memory.weights, "before": before, "window": anchor}
    return read(shown[rule.read]), memory


def _counted(
    key: Float[Array, "b h k"],
    value: Float[Array, "b h v"],
    memory: NeuralMemory,
    rule: WriteRule,
) -> tuple[Array, Array, Float[Array, "b c"], Recent | None]:
    """Return the tokens whose losses count, oldest first, and the new `recent`."""
    keys, values = key[:, :, None], value[:, :, None]
    counts = jnp.ones((key.shape[0], 1), key.dtype)
    if memory.recent is None:
        return keys, values, counts, None
    keys = jnp.concatenate([memory.recent.key, keys], axis=2)
    values = jnp.concatenate([memory.recent.value, values], axis=2)
    age = jnp.arange(rule.loss_window - 1, 0, -1)[None, :]
    old = (age <= memory.position[:, None]).astype(key.dtype)
    return (
        keys,
        values,
        jnp.concatenate([old, counts], axis=1),
        Recent(keys[:, :, 1:], values[:, :, 1:]),
    )


def _loss(
    network: MemoryNetwork,
    slow: SlowWeights | None,
    rule: WriteRule,
    threshold: Float[Array, "b h"] | None,
    weights: Weights,
    key: Float[Array, "b h k"],
    value: Float[Array, "b h v"],
) -> Float[Array, ""]:
    """Return the sum of the memories' losses at one token of each."""
    read = network(Plain(weights, slow, key.dtype), key[:, :, None])[:, :, 0]
    return jnp.sum(inner_loss(rule.loss, read, value, threshold, power=rule.loss_power))


def _gradient(
    loss: Callable[[Weights, Array, Array], Array],
    anchor: Weights,
    keys: Float[Array, "b h c k"],
    values: Float[Array, "b h c v"],
    counts: Float[Array, "b c"],
    rule: WriteRule,
) -> Weights:
    """Return the sum of the tokens' gradients, by automatic differentiation."""
    total = jax.tree.map(jnp.zeros_like, anchor)
    for i in range(keys.shape[2]):
        one = jax.grad(loss)(anchor, keys[:, :, i], values[:, :, i])
        factor = jnp.broadcast_to(counts[:, i, None], keys.shape[:2])
        if rule.clip is not None:
            square = sum(
                jnp.sum(jnp.square(x), axis=tuple(range(2, x.ndim)))
                for x in one.values()
            )
            bound = jnp.maximum(square, rule.clip**2)
            factor = factor * rule.clip * jax.lax.rsqrt(bound)
        total = jax.tree.map(jnp.add, total, _scaled(one, factor))
    return total


def _scaled(weights: Weights, by: Float[Array, "b h"]) -> Weights:
    return {
        n: x * by.reshape(by.shape + (1,) * (x.ndim - 2)) for n, x in weights.items()
    }


def _apply(
    memory: NeuralMemory,
    gradient: Weights,
    rate: Float[Array, "b h"],
    gates: Gates,
    rule: WriteRule,
    anchor: Weights,
) -> NeuralMemory:
    # Newton-Schulz steps remove the scale, so the rate follows them.
    muon, momentum = rule.newton_schulz_steps > 0, memory.momentum
    by = -jnp.ones_like(rate) if muon else -rate
    step = {
        name: x / rule.windows_per_update(name)
        for name, x in _scaled(gradient, by).items()
    }
    if momentum is not None:
        if rule.schedule == "titans" and gates.momentum is not None:
            momentum = _scaled(momentum, gates.momentum)
        step = momentum = jax.tree.map(jnp.add, momentum, step)
    if muon:
        step = _scaled(orthogonalised(step, rule), rate)
    weights = memory.weights
    if rule.schedule == "window":
        assert gates.step_scale is not None
        weights, step = anchor, _scaled(step, gates.step_scale)
    elif gates.forget is not None:
        weights = _scaled(weights, 1 - gates.forget)
    weights = jax.tree.map(jnp.add, weights, step)
    return memory._replace(weights=weights, momentum=momentum)


def neural_memory_recurrent(
    tokens: NeuralTokens,
    memory: NeuralMemory,
    *,
    network: MemoryNetwork,
    rule: WriteRule,
    slow: SlowWeights | None = None,
    initial: NeuralMemory | None = None,
    reset: Bool[Array, "b t"] | None = None,
    valid: Bool[Array, "b t"] | None = None,
) -> tuple[Float[Array, "b t h v"], NeuralMemory]:
    """Return the read of every token and the last memory, step by step (reference).

    Args:
        tokens: tokens of the sequence.
        memory: memory before the first token.
        network: as in `neural_memory_step`.
        rule: rule of the writes.
        slow: as in `neural_memory_step`.
        initial: memory of a new document; None: `memory`.
        reset: True where a document begins.
        valid: mask of real tokens; others change nothing and have undefined reads.
    """
    initial = memory if initial is None else initial
    step = partial(
        neural_memory_step, network=network, rule=rule, slow=slow, initial=initial
    )
    return scan_steps(step, tokens, memory, reset=reset, valid=valid, initial=initial)


def neural_memory_chunkwise(
    tokens: NeuralTokens,
    memory: NeuralMemory,
    *,
    network: MemoryNetwork,
    rule: WriteRule,
    slow: SlowWeights | None = None,
    initial: NeuralMemory | None = None,
    reset: Bool[Array, "b t"] | None = None,
    valid: Bool[Array, "b t"] | None = None,
    chunk_size: int | None = None,
) -> tuple[Float[Array, "b t h v"], NeuralMemory]:
    """Return the same as `neural_memory_recurrent`, by matrix products.

    Args:
        valid: mask of real tokens, which are at the front of a row.
        memory: memory before the first token; without an anchor, at a window's start.
        chunk_size: tokens computed together; a longer window is split into parts of
            this size. None: chosen automatically.

    Raises:
        InputError: the chunk size is not positive.
    """
    if chunk_size is not None and chunk_size < 1:
        raise InputError(f"chunk_size is {chunk_size}; give at least 1, or None")
    time = tokens.query.shape[1]
    if time == 0:
        return jnp.zeros_like(tokens.value), memory
    chunk_size = chunk_size or default_chunk_size(rule)
    lagged, dtype = rule.schedule == "lagged", memory_type(memory)
    aligned = memory.anchor is None and rule.needs_anchor and not lagged
    parted = chunk_size < rule.update_every or rule.level_ratio > 1
    if aligned and (reset is not None or parted):
        memory = memory._replace(anchor=memory.weights)
    prepare = partial(prepare_part, rule=rule, dtype=dtype)
    if lagged:
        prepare = partial(prepare_lagged, dtype=dtype)
    body = partial(
        lagged_part if lagged else write_part,
        network=network,
        rule=rule,
        slow=slow,
        initial=memory if initial is None else initial,
    )
    read, memory, position = scan_parts(
        body,
        memory,
        tokens,
        position=memory.position,
        rule=rule,
        prepare=prepare,
        reset=reset,
        valid=valid,
        chunk_size=chunk_size,
        aligned=aligned,
    )
    return read, memory._replace(position=position)


def default_chunk_size(rule: WriteRule) -> int:
    """Return the number of tokens to compute together if the caller names none."""
    # Weights that must be formed after every token take much memory.
    most = 64 if rule.linear or rule.schedule == "lagged" else 16
    return max(16, min(rule.update_every, most))


def scan_parts(
    body: Body,
    carry: Carry,
    tokens: NeuralTokens,
    *,
    position: Int[Array, "b"],
    rule: WriteRule,
    prepare: Callable[[Any, Part], Any],
    reset: Bool[Array, "b t"] | None,
    valid: Bool[Array, "b t"] | None,
    chunk_size: int,
    aligned: bool = False,
) -> tuple[Any, Carry, Int[Array, "b"]]:
    """Return outputs, carry and position after a `window_scan` of prepared parts.

    Args:
        body: `(carry, prepared tokens, part) -> (carry, outputs)`.
        carry: memory of any kind.
        tokens: tokens of the sequence.
        position: number of tokens of the document so far.
        rule: rule of the writes.
        prepare: prepares what does not depend on the memory; see `prepare_part`.
        reset: True where a document begins.
        valid: mask of real tokens, which are at the front of a row.
        chunk_size: tokens computed together.
        aligned: True if a window begins at the first token of every row.
    """
    time = tokens.query.shape[1]
    length = None if valid is None else jnp.sum(valid, axis=1, dtype=jnp.int32)
    place, position = places(position, time, reset=reset, length=length)
    if rule.scale_by_place:
        rate = tokens.gates.learning_rate
        share = 1 / (1 + place % rule.update_every).astype(rate.dtype)
        gates = tokens.gates._replace(learning_rate=rate * share[..., None])
        tokens = tokens._replace(gates=gates)
    outputs, carry = window_scan(
        body,
        carry,
        tokens,
        place=place,
        update_every=rule.update_every,
        chunk_size=chunk_size,
        reset=reset,
        valid=valid,
        aligned=aligned,
        prepare=prepare,
        policy=keep_rows,
    )
    return outputs, carry, position
