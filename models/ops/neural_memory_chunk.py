"""A part of a window as matrix products over its tokens.

If the rule is linear, only the first and the last weights are formed (the dual form).
Other rules form the weights after every token; see `formed_weights`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .fast_gradients import over_rows, product, row_product, scale_rows
from .formed_weights import (
    Formed,
    after_every_token,
    last,
    shifted,
    steps_along,
    used_after_every_token,
)
from .inner_loss import inner_loss
from .memory_network import (
    EachWeights,
    MemoryNetwork,
    Plain,
    Recording,
    SlowWeights,
    Weights,
)
from .recurrence import select
from .windows import Part
from .write_rule import (
    NeuralMemory,
    Recent,
    WriteRule,
    memory_type,
    open_window,
    used_weights,
)
from .write_schedule import (
    Schedule,
    before_the_write,
    titans_schedule,
    two_schedules,
    window_schedule,
)


class Prepared(NamedTuple):
    """Tokens of a part, heads before tokens, and the schedule of their writes.

    `threshold` belongs to the Huber loss, and `momentum` is the momentum's schedule if
    the weights take steps along a function of it.
    """

    query: Float[Array, "b h c k"]
    key: Float[Array, "b h c k"]
    value: Float[Array, "b h c v"]
    schedule: Schedule
    threshold: Float[Array, "b h c"] | None = None
    momentum: Schedule | None = None


def prepare_part(
    tokens: Any,
    part: Part,
    *,
    rule: WriteRule,
    dtype: DTypeLike,
) -> Prepared:
    """Prepare everything of a part that does not depend on the memory."""
    gates = jax.tree.map(lambda g: jnp.moveaxis(g.astype(dtype), 2, 1), tokens.gates)
    momentum = None
    if rule.schedule == "window":
        schedule = window_schedule(gates, part.valid)
    else:
        band = None
        if rule.loss_window > 1:
            band = loss_band(part, rule.loss_window, dtype)
        if rule.newton_schulz_steps:
            momentum, schedule = two_schedules(gates, part.valid, band)
        else:
            schedule = titans_schedule(gates, part.valid, band)
    q, k, v = (jnp.moveaxis(x, 2, 1) for x in tokens[:3])
    return Prepared(q, k, v, schedule, gates.threshold, momentum)


class Factors(NamedTuple):
    """Factors of the gradients of a part's tokens, by the weight's name.

    A matrix's gradient at a token is the outer product of the matrix's input and of the
    loss's gradient for its output. A scale's gradient is their elementwise product. A
    shift's gradient is the second factor of the matrix or scale before it.
    """

    entered: dict[str, Float[Array, "b h c i"]]
    left: dict[str, Float[Array, "b h c o"]]


def before_shift(name: str) -> str:
    """Return the name of the matrix or scale before a shift."""
    return name.removesuffix("_bias")


def gradient_factors(
    network: MemoryNetwork,
    weights: Weights,
    slow: SlowWeights | None,
    key: Float[Array, "b h c k"],
    value: Float[Array, "b h c v"],
    rule: WriteRule,
    operand: DTypeLike,
    threshold: Float[Array, "b h c"] | None = None,
) -> Factors:
    """Return the gradients of every token's loss at `weights`, as factors."""
    sizes = {name: o for name, (_, o) in network.matrices().items()}
    sizes |= {n: o for n, o in network.vectors().items() if not n.endswith("_bias")}
    dtype = next(iter(weights.values())).dtype
    added = {n: jnp.zeros((*key.shape[:3], o), dtype) for n, o in sizes.items()}

    def loss(added: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
        fast = Recording(weights, slow, operand, added)
        losses = inner_loss(
            rule.loss, network(fast, key), value, threshold, power=rule.loss_power
        )
        return jnp.sum(losses), fast.entered

    left, entered = jax.grad(loss, has_aux=True)(added)
    factors = Factors(entered, left)
    if rule.clip is not None:
        factors = _clip(network, factors, rule.clip)
    shares = {name: 1 / rule.windows_per_update(name) for name in left}
    left = {n: x if shares[n] == 1 else x * shares[n] for n, x in factors.left.items()}
    return factors._replace(left=left)


def _clip(network: MemoryNetwork, factors: Factors, clip: float) -> Factors:
    """Shorten each token's gradient, over all weights of a head, to length `clip`."""

    def square(x: Array) -> Array:
        return row_product(x, x)

    entered, left = factors
    total = sum(square(entered[n]) * square(left[n]) for n in network.matrices())
    for name in network.vectors():
        source = before_shift(name)
        by = 1.0 if name != source else entered[source]
        total = total + square(by * left[source])
    factor = clip * jax.lax.rsqrt(jnp.maximum(total, clip**2))
    return Factors(entered, {name: scale_rows(x, factor) for name, x in left.items()})


class Written(Plain):
    """The weights after every token of the part, each applied to that token's query."""

    def __init__(
        self,
        weights: Weights,
        momentum: Weights | None,
        factors: Factors,
        schedule: Schedule,
        slow: SlowWeights | None,
        operand: DTypeLike,
    ):
        super().__init__(weights, slow, operand)
        self.momentum = momentum
        self.factors = factors
        self.schedule = schedule

    def matrix(self, name: str, x: Array) -> Array:
        entered, left = self.factors.entered[name], self.factors.left[name]
        scores = product("bhtk,bhsk->bhts", x, entered, self.operand)
        # Negate the smallest factor.
        scores = scores * -self.schedule.written
        y = scale_rows(super().matrix(name, x), self.schedule.kept)
        y = y + product("bhts,bhsv->bhtv", scores, left, self.operand)
        if self.momentum is not None and self.schedule.pushed is not None:
            pushed = product("bhtk,bhkv->bhtv", x, self.momentum[name], self.operand)
            y = y + scale_rows(pushed, self.schedule.pushed)
        return y

    def _vector(self, name: str, gradient: Array) -> Array:
        """Return a vector after every token."""
        kept, pushed, written = self.schedule[:3]
        count = kept.shape[-1]
        y = scale_rows(over_rows(self.weights[name], count), kept)
        y = y + product("bhts,bhsv->bhtv", -written, gradient, written.dtype)
        if self.momentum is not None and pushed is not None:
            y = y + scale_rows(over_rows(self.momentum[name], count), pushed)
        return y

    def scale(self, name: str, x: Array) -> Array:
        gradient = self.factors.entered[name] * self.factors.left[name]
        return x * self._vector(name, gradient)

    def shift(self, name: str, x: Array) -> Array:
        return x + self._vector(name, self.factors.left[before_shift(name)])


def _summed(
    factors: Factors,
    weights: Weights,
    by: Float[Array, "b h *t c"],
    operand: DTypeLike,
) -> dict[str, Array]:
    """Return weighted sums of the tokens' gradients; with an axis t, one per t."""
    each = by.ndim == 4

    def one(name: str, like: Array) -> Array:
        source = before_shift(name)
        left = factors.left[source]
        if like.ndim == 4:
            entered = factors.entered[name]
            if each:
                entered = by[..., None] * entered[:, :, None]
                return product("bhtck,bhcv->bhtkv", entered, left, operand)
            entered = scale_rows(entered, by)
            return product("bhck,bhcv->bhkv", entered, left, operand)
        gradient = left if name != source else left * factors.entered[name]
        equation = "bhtc,bhcv->bhtv" if each else "bhc,bhcv->bhv"
        return product(equation, by, gradient, by.dtype)

    return {name: one(name, like) for name, like in weights.items()}


def _combine(
    first: Weights,
    factor: Float[Array, "b h"],
    second: Weights | None,
    share: Float[Array, "b h"] | None,
    added: Weights,
) -> Weights:
    def scaled(x: Array, by: Array) -> Array:
        return x * by.reshape(by.shape + (1,) * (x.ndim - 2))

    result = {}
    for name, x in first.items():
        result[name] = scaled(x, factor) + added[name]
        if second is not None and share is not None:
            result[name] = result[name] + scaled(second[name], share)
    return result


def loss_band(part: Part, window: int, dtype: DTypeLike) -> Float[Array, "b c s"]:
    """Return which tokens count in the loss at each token, recent ones first."""
    places, held = _places_with_recent(part, window)
    distance = part.place[:, :, None] - places[:, None, :]
    band = jnp.logical_and(distance >= 0, distance < window)
    there = jnp.logical_and(held, places >= 0)
    return (band & there[:, None, :] & part.valid[:, :, None]).astype(dtype)


def _places_with_recent(part: Part, window: int) -> tuple[Array, Array]:
    """Return positions of the recent and the part's tokens, and which are real."""
    index = jnp.argmax(part.valid, axis=1)[:, None]
    first = jnp.take_along_axis(part.place, index, axis=1)
    old = first - (window - 1) + jnp.arange(window - 1)[None, :]
    held = jnp.concatenate([jnp.ones_like(old, bool), part.valid], axis=1)
    return jnp.concatenate([old, part.place], axis=1), held


def _after_part(
    recent: Recent, key: Array, value: Array, part: Part, window: int
) -> Recent:
    """Return the new recent tokens, and keys and values with the recent ones first."""
    places, held = _places_with_recent(part, window)
    length = window - 1
    last = places[:, :1] + length + jnp.sum(part.valid, axis=1)[:, None]
    wanted = last - length + jnp.arange(length)[None, :]
    same = (places[:, None, :] == wanted[:, :, None]) & held[:, None, :]
    chosen = same.astype(key.dtype)
    after = Recent(*(jnp.einsum("bws,bhsk->bhwk", chosen, x) for x in (key, value)))
    return select(jnp.any(part.valid, axis=1), after, recent)


def write_part(
    memory: NeuralMemory,
    tokens: Prepared,
    part: Part,
    *,
    network: MemoryNetwork,
    rule: WriteRule,
    slow: SlowWeights | None,
    initial: NeuralMemory,
) -> tuple[NeuralMemory, Float[Array, "b c h v"]]:
    """Return the memory after the part, and each token's read; the body of a scan."""
    after, fast = open_part(
        memory,
        tokens,
        part,
        network=network,
        rule=rule,
        slow=slow,
        initial=initial,
    )
    read = network(fast, tokens.query.astype(memory_type(memory)))
    return after, jnp.moveaxis(read, 1, 2).astype(tokens.value.dtype)


def open_part(
    memory: NeuralMemory,
    tokens: Prepared,
    part: Part,
    *,
    network: MemoryNetwork,
    rule: WriteRule,
    slow: SlowWeights | None,
    initial: NeuralMemory,
) -> tuple[NeuralMemory, Plain]:
    """Return the memory after the part, and the weights that its queries read."""
    if part.fresh is not None:
        memory = select(part.fresh, initial._replace(position=memory.position), memory)
    window = part.place[:, 0] // rule.update_every
    memory = open_window(memory, part.opens, rule, initial.weights, window)
    anchor = memory.weights if memory.anchor is None else memory.anchor
    operand, wide = tokens.value.dtype, memory_type(memory)
    key, value = tokens.key.astype(wide), tokens.value.astype(wide)
    schedule = tokens.schedule
    recent = memory.recent
    if recent is not None:
        key = jnp.concatenate([recent.key, key], axis=2)
        value = jnp.concatenate([recent.value, value], axis=2)
        recent = _after_part(recent, key, value, part, rule.loss_window)
    first = anchor if rule.schedule == "window" else memory.weights
    used = used_weights(anchor, rule)
    factors = gradient_factors(
        network, used, slow, key, value, rule, operand, tokens.threshold
    )
    if rule.linear:
        shown = before_the_write(schedule) if rule.read == "before" else schedule
        fast: Plain = Written(first, memory.momentum, factors, shown, slow, operand)
        weights = _weights_after(memory, first, factors, schedule, operand)
        momentum = _momentum_after(memory, factors, schedule, operand)
    else:
        each, momentum = _formed(memory, factors, tokens, operand, rule)
        weights = last(each)
        shown = shifted(first, each) if rule.read == "before" else each
        fast = Formed(used_after_every_token(shown, rule), slow, operand)
    if rule.read == "window":
        fast = Plain(used, slow, operand)
    after = memory._replace(weights=weights, momentum=momentum)
    if rule.schedule == "window":
        after = select(jnp.any(part.valid, axis=1), after, memory)
    return after._replace(recent=recent), fast


def _weights_after(
    memory: NeuralMemory,
    first: Weights,
    factors: Factors,
    schedule: Schedule,
    operand: DTypeLike,
) -> Weights:
    written = _summed(factors, first, -schedule.written[..., -1, :], operand)
    pushed = None if schedule.pushed is None else schedule.pushed[..., -1]
    kept = schedule.kept[..., -1]
    return _combine(first, kept, memory.momentum, pushed, written)


def _momentum_after(
    memory: NeuralMemory, factors: Factors, schedule: Schedule, operand: DTypeLike
) -> Weights | None:
    momentum = memory.momentum
    if momentum is None:
        return None
    assert schedule.momentum_kept is not None
    assert schedule.momentum_written is not None
    summed = _summed(factors, momentum, -schedule.momentum_written, operand)
    return _combine(momentum, schedule.momentum_kept, None, None, summed)


def _formed(
    memory: NeuralMemory,
    factors: Factors,
    tokens: Prepared,
    operand: DTypeLike,
    rule: WriteRule,
) -> tuple[EachWeights, Weights | None]:
    """Return the weights after every token, before the link, and the last momentum."""
    weights, momentum, schedule = memory.weights, memory.momentum, tokens.schedule
    if tokens.momentum is None:
        written = _summed(factors, weights, -schedule.written, operand)
        after = _momentum_after(memory, factors, schedule, operand)
        return after_every_token(weights, momentum, schedule, written), after
    added = _summed(factors, weights, -tokens.momentum.written, operand)
    start = jax.tree.map(jnp.zeros_like, weights) if momentum is None else momentum
    each = after_every_token(start, None, tokens.momentum, added)
    steps = steps_along(each, schedule, rule)
    after = None if momentum is None else last(each)
    return after_every_token(weights, None, schedule, steps), after
