"""A hierarchical memory with two rates: fast detail and slow gist."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Bool, Float

from memzoo.errors import InputError

from .associative_memory import AssociativeState
from .interface import Layout
from .layer_checks import check_positive
from .layer_config import Family
from .memory_inputs import MemoryInputs
from .neural_memory_layer import initial_weights
from .ops.memory_network import Plain, Weights
from .ops.neural_memory import (
    NeuralTokens,
    default_chunk_size,
    neural_memory_step,
    scan_parts,
)
from .ops.neural_memory_chunk import Prepared, open_part, prepare_part
from .ops.normalisation import l2_normalise
from .ops.recurrence import select
from .ops.windows import Part
from .ops.write_rule import (
    NeuralMemory,
    WriteRule,
    memory_type,
    new_memory,
    weights_before_window,
)
from .ops.write_schedule import Gates
from .projection import projection
from .regression import Regression
from .titans_lmm import TitansLMM, TitansLMMConfig


@dataclass(frozen=True, kw_only=True)
class HMMTwoRateConfig(TitansLMMConfig):
    """A two-rate hierarchical memory, inspired by Mela (arXiv:2605.10537).

    Only Mela's abstract and reviews are public. They name a fast module for detail, a
    slow module for gist, a recursion between them, a mixture by context, and Titans'
    write rule. The equations below are ours; this is no reproduction.

    The fast memory L is titans_lmm, with windows of C = `update_every` tokens. The slow
    memory H is a network of the same kind. Per head, unit(x) has length 1:

        l_t = L_t(q),  h_t = H(unit(U_q l_t))    `rounds` times: q = q_t, then
                                                 q = unit(q_t + U_f h_t)
        g_t = sigmoid(W_m [q_t, l_t, h_t] + b)
        y_t = W_o (norm(g_t l_t + (1 - g_t) h_t) * silu(W_g x_t))

    After every window of C tokens, H is written once, by the same rule:

        r = mean over the window of L_t(q_t)
        key = unit(U_k r),  value = U_v r,  gates = sigmoid(linear map of r)

    H's gradients and reads use its weights before its own window of `slow_every` such
    writes, so H is constant for C * `slow_every` tokens. Its learning rate is below
    `max_learning_rate` / `slow_every`, because means of windows are much alike. The
    maps U and W_m mix heads.
    With g_t = 1 and one round the layer is titans_lmm.

    Differs from it in: everything that the abstract leaves open. Mela's MemStack, which
    feeds the levels into the first decoder layers, is left out: a layer here has one
    output.
    """

    family: ClassVar[Family] = "hierarchical memory"
    regression: ClassVar[Regression | None] = None
    small: ClassVar[Mapping[str, Any]] = {
        "num_heads": 2,
        "update_every": 2,
        "slow_every": 2,
        "memory_depth": 1,
        "persistent_tokens": 0,
        "chunk_size": 4,
    }

    slow_every: int = 4
    """Windows of the fast memory between two changes of the slow one; changes the
    result."""
    rounds: int = 2
    """Number of reads of both memories per token; after the first, the slow memory's
    read enters the fast memory's query."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("slow_every", self.slow_every)
        check_positive("rounds", self.rounds)
        if self.read != "after":
            raise InputError(
                f"read is {self.read!r}, but hmm_two_rate reads after the token's "
                "write; leave it out"
            )

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "HMMTwoRate":
        del layer_index
        return HMMTwoRate(self, width, rngs, depth)


class TwoRateMemory(NamedTuple):
    """Memory of `HMMTwoRate`.

    Attributes:
        fast: memory that every token writes.
        slow: memory that every window of the fast one writes.
        total: sum of the fast memory's reads in the window so far.
    """

    fast: NeuralMemory
    slow: NeuralMemory
    total: Float[Array, "b h v"]


class HMMTwoRate(TitansLMM):
    """See `HMMTwoRateConfig`."""

    def __init__(
        self, config: HMMTwoRateConfig, width: int, rngs: nnx.Rngs, depth: int
    ):
        super().__init__(config, width, rngs, depth)
        heads = config.num_heads
        inner = heads * self.head_size
        self.rounds = config.rounds
        self.slow_rule = WriteRule(
            update_every=config.slow_every,
            read="window",
            loss=config.loss,
            clip=config.clip,
        )
        slow = initial_weights(self.network, heads, rngs, scale=0.1)
        self.slow_initial = nnx.Dict(slow)
        self.slow_query = projection(inner, inner, rngs)
        self.slow_key = projection(inner, inner, rngs)
        self.slow_value = projection(inner, inner, rngs)

        def gate() -> nnx.Linear:
            return projection(inner, heads, rngs, bias=True)

        self.slow_learning_rate = gate()
        self.slow_momentum = gate() if config.momentum else None
        self.slow_forget = gate() if config.forget else None
        if self.slow_forget is not None:
            # Initially little is forgotten, as in the fast memory.
            nnx.update(self.slow_forget, {"bias": jnp.full((heads,), -5.0)})
        self.feedback = projection(inner, inner, rngs) if config.rounds > 1 else None
        self.mixture = projection(3 * inner, inner, rngs, bias=True)

    def init_memory(self, batch_size: int) -> TwoRateMemory:
        fast = self.new_network(batch_size)
        weights: Weights = {
            name: jnp.broadcast_to(w[...][None], (batch_size, *w[...].shape))
            for name, w in self.slow_initial.items()
        }
        slow = new_memory(
            weights, self.network, self.slow_rule, momentum=self.has_momentum
        )
        shape = (batch_size, self.config.num_heads, self.head_size)
        return TwoRateMemory(fast, slow, jnp.zeros(shape, memory_type(fast)))

    def init_state(self, batch_size: int, max_length: int) -> AssociativeState:
        # Both anchors are always kept: windows are never aligned with calls.
        return super().init_state(batch_size, max(max_length, 1))

    def capacity(self, state: AssociativeState) -> int | None:
        del state
        return None

    def write_and_read(
        self,
        inputs: MemoryInputs,
        memory: TwoRateMemory,
        reset: Bool[Array, "b t"] | None,
    ) -> tuple[Float[Array, "b t h v"], TwoRateMemory]:
        tokens, rule = inputs.tokens, self.write_rule
        rows, time = tokens.query.shape[:2]
        if time == 0:
            return jnp.zeros_like(tokens.value), memory
        initial = memory
        if reset is not None or rule.keep_row_norms:
            initial = self.init_memory(rows)
        graphdef, arrays = nnx.split(self)

        def body(carry: Any, tokens: Any, part: Part) -> tuple[Any, Array]:
            # Close over the layer's arrays: the scan rematerialises its body.
            return nnx.merge(graphdef, arrays)._part(carry, tokens, part, initial)

        read, memory, position = scan_parts(
            body,
            memory,
            tokens,
            position=memory.fast.position,
            rule=rule,
            prepare=partial(prepare_part, rule=rule, dtype=memory_type(memory.fast)),
            reset=reset,
            valid=inputs.valid,
            chunk_size=self.config.chunk_size or default_chunk_size(rule),
        )
        return read, memory._replace(fast=memory.fast._replace(position=position))

    def _part(
        self,
        memory: TwoRateMemory,
        tokens: Prepared,
        part: Part,
        initial: TwoRateMemory,
    ) -> tuple[TwoRateMemory, Float[Array, "b c h v"]]:
        """Return the memory after a part of a window, and each token's read."""
        if part.fresh is not None:
            memory = memory._replace(slow=select(part.fresh, initial.slow, memory.slow))
        fast, weights = open_part(
            memory.fast,
            tokens,
            part,
            network=self.network,
            rule=self.write_rule,
            slow=None,
            initial=initial.fast,
        )
        query = tokens.query.astype(memory_type(fast))
        detail, read = self._recursion(weights, memory.slow, query)
        total = select(part.opens, jnp.zeros_like(memory.total), memory.total)
        total = total + jnp.einsum("bhcv,bc->bhv", detail, part.valid)
        every = self.write_rule.update_every
        ends = part.valid & (part.place % every == every - 1)
        slow = self._consolidate(memory.slow, total, jnp.any(ends, axis=1))
        read = jnp.moveaxis(read, 1, 2).astype(tokens.value.dtype)
        return TwoRateMemory(fast, slow, total), read

    def write_and_read_token(
        self, inputs: MemoryInputs, memory: TwoRateMemory
    ) -> tuple[Float[Array, "b t h v"], TwoRateMemory]:
        every = self.write_rule.update_every
        place = memory.fast.position % every
        _, fast = super().write_and_read_token(inputs, memory.fast)
        weights = Plain(fast.weights, None, inputs.tokens.value.dtype)
        query = jnp.moveaxis(inputs.query, 2, 1).astype(memory_type(fast))
        detail, read = self._recursion(weights, memory.slow, query)
        total = select(place == 0, jnp.zeros_like(memory.total), memory.total)
        total = total + detail[:, :, 0]
        slow = self._consolidate(memory.slow, total, place == every - 1)
        read = jnp.moveaxis(read, 1, 2).astype(inputs.tokens.value.dtype)
        return read, TwoRateMemory(fast, slow, total)

    def read(
        self, query: Float[Array, "b t h k"], memory: TwoRateMemory
    ) -> Float[Array, "b t h v"]:
        weights = Plain(memory.fast.weights, None, query.dtype)
        wide = jnp.moveaxis(query, 2, 1).astype(memory_type(memory.fast))
        _, read = self._recursion(weights, memory.slow, wide)
        return jnp.moveaxis(read, 1, 2).astype(query.dtype)

    def _recursion(
        self, fast: Plain, slow: NeuralMemory, query: Float[Array, "b h c k"]
    ) -> tuple[Float[Array, "b h c v"], Float[Array, "b h c v"]]:
        """Return the fast memory's first read, and the mixture after all rounds."""
        weights = weights_before_window(slow, self.slow_rule)
        slow_fast = Plain(weights, None, fast.operand)

        def across(module: nnx.Linear, *heads: Array) -> Array:
            merged = [rearrange(x, "b h c k -> b c (h k)") for x in heads]
            y = module(jnp.concatenate(merged, axis=-1).astype(fast.operand))
            y = rearrange(y, "b c (h k) -> b h c k", h=query.shape[1])
            return y.astype(query.dtype)

        def gist_of(detail: Array) -> Array:
            asked = l2_normalise(across(self.slow_query, detail))
            return self.network(slow_fast, asked)

        first = detail = self.network(fast, query)
        gist = gist_of(first)
        for _ in range(1, self.rounds):
            assert self.feedback is not None
            again = l2_normalise(query + across(self.feedback, gist))
            detail = self.network(fast, again)
            gist = gist_of(detail)
        gate = jax.nn.sigmoid(across(self.mixture, query, detail, gist))
        return first, gate * detail + (1 - gate) * gist

    def _consolidate(
        self,
        slow: NeuralMemory,
        total: Float[Array, "b h v"],
        rows: Bool[Array, "b"],
    ) -> NeuralMemory:
        """Return the slow memory, in the given rows with the window written into it."""
        pooled = rearrange(total, "b h v -> b (h v)") / self.write_rule.update_every

        def gate(module: nnx.Linear | None) -> Array | None:
            return None if module is None else jax.nn.sigmoid(module(pooled))

        key, value = (
            rearrange(module(pooled), "b (h v) -> b h v", h=total.shape[1])
            for module in (self.slow_key, self.slow_value)
        )
        most = self.config.max_learning_rate / self.slow_rule.update_every
        rate = most * jax.nn.sigmoid(self.slow_learning_rate(pooled))
        gates = Gates(rate, gate(self.slow_momentum), gate(self.slow_forget))
        key = l2_normalise(key)
        _, written = neural_memory_step(
            NeuralTokens(key, key, value, gates),
            slow,
            network=self.network,
            rule=self.slow_rule,
        )
        return select(rows, written, slow)

    def _surprise(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> Float[Array, "b t"]:
        # Writes of the fast memory do not depend on the slow one.
        return super()._surprise(x, state._replace(memory=state.memory.fast), layout)
