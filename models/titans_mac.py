"""Titans, memory as context: each segment attends to reads of the memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from memzoo.errors import InputError

from .interface import Layout, MemoryLayer, Metric
from .layer_checks import check_even, check_positive, resolve_head_size
from .layer_config import Family, RegisteredConfig
from .ops.attention import attention
from .ops.memory_network import Weights
from .ops.normalisation import l2_normalise
from .ops.recurrence import select
from .ops.rotary import rotary
from .ops.routing import move
from .ops.visibility import ALWAYS_VISIBLE
from .ops.windows import Part, window_scan
from .projection import (
    RMSNorm,
    learned_tokens,
    merge_heads,
    output_gain,
    projection,
    split_heads,
)
from .read_out import ReadOut
from .streams import Stream, query_key_value
from .titans_lmm import SMALL_MEMORY, TitansLMMConfig


def plain_memory() -> TitansLMMConfig:
    """Return a memory for MAC, whose attention holds the persistent tokens instead."""
    return TitansLMMConfig(persistent_tokens=0)


@dataclass(frozen=True, kw_only=True)
class TitansMACConfig(RegisteredConfig):
    """Titans, memory as context (Behrouz et al. 2024, arXiv:2501.00663).

    Equations 21 to 25, over the segments x of `segment_size` tokens of a document, with
    M the long-term memory of `TitansLMMConfig` before the segment and p the persistent
    tokens:

        h_i = M(q_i)
        y_i = x_i + attention of x_i to [p, h_1 .. h_i, x_1 .. x_i]
        M_i = M_(i-1) written with y_i
        m_i = norm(M_i(y_i))
        o_i = norm(y_i) * silu(m_i) + m_i

    Differs from it in: as printed, x_i attends to every h of its segment (equation 22)
    and reads the memory after the whole segment (24 and 25). Both read the future: h_j
    depends on x_j, and the memory on tokens after i. Here x_i sees h_j only for j <= i
    and reads the memory written up to y_i. With `memory_tokens`, h is the memory's read
    at that many learned queries, and the whole segment sees it. Section 4.4 asks for
    residual connections without saying where; x_i + attention is a choice (printed:
    `residual` False). Adding m_i to the product is not in the paper (printed:
    `add_memory` False). Windows of writes are no longer than a segment.
    """

    family: ClassVar[Family] = "neural memory"
    small: ClassVar[Mapping[str, Any]] = {
        "memory": SMALL_MEMORY,
        "segment_size": 6,
    }

    memory: TitansLMMConfig = field(default_factory=plain_memory)
    """Config of the long-term memory."""
    segment_size: int = 64
    """Tokens per segment; changes the result."""
    memory_tokens: int | None = None
    """Number of learned queries to the memory before the segment; None: the tokens'
    own queries."""
    num_heads: int = 4
    """Number of attention heads."""
    head_size: int | None = None
    """Size of each attention head; None: width / num_heads."""
    rotary_base: float | None = 10000.0
    """Base of the rotary positions within a segment; None: no positions."""
    persistent_tokens: int = 4
    """Number of learned tokens that every token attends to; 0: none."""
    residual: bool = True
    """Add x to its attention, y = x + A(x); False: equation 23 as printed."""
    add_memory: bool = True
    """Add norm(M(y)) to the product; False: equation 25 as printed."""
    norm_epsilon: float = 1e-5
    """Epsilon of the layer's norms: added to the mean square. Not the memory's."""

    def __post_init__(self) -> None:
        check_positive("segment_size", self.segment_size)
        check_positive("norm_epsilon", self.norm_epsilon)
        if self.memory.prefix:
            raise InputError(
                "memory.prefix is True, but titans_mac reads segment by segment; "
                "leave it out, or choose titans_lmm, titans_mag or titans_mal"
            )
        window, size = self.memory.update_every, self.segment_size
        if window > size:
            raise InputError(
                f"memory.update_every is {window}, more than segment_size {size}; "
                f"lower update_every to {size}, or raise "
                f"segment_size to {window}"
            )
        if self.memory_tokens is not None:
            check_positive("memory_tokens", self.memory_tokens)
        if self.persistent_tokens < 0:
            raise InputError(
                f"persistent_tokens is {self.persistent_tokens}; give 0 (none) or more"
            )

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "TitansMAC":
        return TitansMAC(self, width, rngs, layer_index, depth)


class Context(NamedTuple):
    """Keys and values of a segment, indexed by place in the segment."""

    key: Float[Array, "b c h k"]
    value: Float[Array, "b c h k"]
    memory_key: Float[Array, "b _ h k"]
    memory_value: Float[Array, "b _ h k"]


class SegmentState(NamedTuple):
    """State of `TitansMAC`.

    Attributes:
        memory: state of the long-term memory.
        before: the memory's weights before the segment.
        context: keys and values of the segment so far.
        position: number of tokens of the document so far.
    """

    memory: Any
    before: Weights
    context: Context
    position: Int[Array, "b"]


class TitansMAC(MemoryLayer[SegmentState]):
    """See `TitansMACConfig`."""

    def __init__(
        self,
        config: TitansMACConfig,
        width: int,
        rngs: nnx.Rngs,
        layer_index: int | Array,
        depth: int,
    ):
        size = resolve_head_size(width, config.num_heads, config.head_size)
        if config.rotary_base is not None:
            check_even("head_size", size, "rotary positions rotate pairs")
        self.config = config
        self.head_size = size
        self.memory = config.memory.build(
            width, rngs, layer_index=layer_index, depth=depth
        )
        held = config.memory.num_heads * self.memory.head_size
        inner = config.num_heads * size
        self.query, self.key, self.value = query_key_value(
            width,
            (inner, inner, inner),
            (config.num_heads, config.num_heads, config.num_heads),
            0,
            rngs,
            activation=False,
        )
        # With the residual, y is a stream, to which the attention is added.
        enters = depth if config.residual else None
        self.read_out = ReadOut(inner, width, rngs, depth=enters)
        epsilon = config.norm_epsilon
        self.retrieved_norm = RMSNorm(self.memory.head_size, epsilon)
        self.retrieved = projection(held, width, rngs)
        own = config.memory_tokens is None
        self.retrieval = projection(width, held, rngs) if own else None
        self.learned_queries = learned_tokens(config.memory_tokens or 0, held, rngs)
        self.persistent = learned_tokens(config.persistent_tokens, width, rngs)
        self.attention_norm = RMSNorm(width, epsilon)
        self.memory_norm = RMSNorm(width, epsilon)
        # Initially of the size that a map into the residual stream would give.
        added = [self.memory_norm] if config.add_memory else []
        for norm in (self.attention_norm, *added):
            norm.scale[...] = jnp.full_like(norm.scale[...], output_gain(depth))

    def init_state(self, batch_size: int, max_length: int) -> SegmentState:
        config, size = self.config, self.head_size
        own = config.segment_size if config.memory_tokens is None else 0
        shape = (batch_size, config.segment_size, config.num_heads, size)
        # The memory always continues: it is carried from segment to segment.
        memory: Any = self.memory.init_state(batch_size, max(max_length, 1))
        return SegmentState(
            memory=memory,
            before=memory.memory.weights,
            context=Context(
                jnp.zeros(shape, jnp.float32),
                jnp.zeros(shape, jnp.float32),
                jnp.zeros((shape[0], own, *shape[2:]), jnp.float32),
                jnp.zeros((shape[0], own, *shape[2:]), jnp.float32),
            ),
            position=jnp.zeros((batch_size,), jnp.int32),
        )

    def sequence(
        self, x: Float[Array, "b t d"], state: SegmentState, layout: Layout
    ) -> tuple[Float[Array, "b t d"], SegmentState]:
        time, size = x.shape[1], self.config.segment_size
        if time == 0:
            return x, state
        place, position = layout.positions(state.position, time)
        fresh = None
        if layout.reset is not None:
            fresh = self.memory.init_state(x.shape[0], 1)
        graphdef, arrays = nnx.split(self)

        def body(carry: Any, x: Array, part: Part) -> tuple[Any, tuple]:
            # Close over the layer's arrays: the scan rematerialises its body.
            return nnx.merge(graphdef, arrays)._segment(carry, x, part, fresh)

        (o, surprise), (memory, before, context) = window_scan(
            body,
            (state.memory, state.before, state.context),
            x,
            place=place,
            update_every=size,
            chunk_size=size,
            reset=layout.reset,
            valid=layout.valid(time),
        )
        if surprise is not None:
            self.surprise = Metric(surprise)
        return o, SegmentState(memory, before, context, position)

    def _segment(
        self,
        carry: tuple[Any, Weights, Context],
        x: Float[Array, "b c d"],
        part: Part,
        fresh: Any,
    ) -> tuple[tuple[Any, Weights, Context], tuple[Array, Array | None]]:
        """Map the part of a segment that lies in this call, each token at its place.

        Returns:
            The carry, and outputs `b c d` with surprise `b c` if the memory reports it.
        """
        memory, before, context = carry
        if part.fresh is not None:
            memory = select(part.fresh, fresh, memory)
        before = select(part.opens, memory.memory.weights, before)
        slots = jnp.arange(x.shape[1], dtype=jnp.int32)[None, :]
        slots = jnp.broadcast_to(slots, x.shape[:2])
        new = self._context(x, before, slots)
        there = part.valid[:, :, None, None]
        context = jax.tree.map(
            lambda a, b: jnp.where(there, a.astype(b.dtype), b) if b.shape[1] else b,
            new,
            context,
        )
        y = self._attend(x, context, before, slots, slots)
        # The memory needs real tokens at the front of a row.
        length = jnp.sum(part.valid, axis=1, dtype=jnp.int32)
        first = jnp.argmax(part.valid, axis=1).astype(jnp.int32)
        there = slots < length[:, None]
        source = jnp.where(there, slots + first[:, None], -1)
        back = jnp.where(part.valid, slots - first[:, None], -1)
        m, memory = self.memory.sequence(
            move(y, source, back[:, :, None]), memory, Layout(None, length)
        )
        o = self._gated(y, move(m, back, source[:, :, None]))
        surprise = None
        if self.memory.reports_surprise:
            found = self.memory.surprise.get_value()
            surprise = move(found, back, source[:, :, None])
            del self.memory.surprise
        return (memory, before, context), (o, surprise)

    def token(
        self, x: Float[Array, "b d"], state: SegmentState
    ) -> tuple[Float[Array, "b d"], SegmentState]:
        x = x[:, None, :]
        slot = (state.position % self.config.segment_size)[:, None]
        memory, before = state.memory, state.before
        opens = slot[:, 0] == 0
        before = select(opens, memory.memory.weights, before)
        new = self._context(x, before, slot)
        rows = jnp.arange(x.shape[0])
        context = jax.tree.map(
            lambda a, b: (
                b.at[rows, slot[:, 0]].set(a[:, 0].astype(b.dtype)) if b.shape[1] else b
            ),
            new,
            state.context,
        )
        slots = jnp.arange(self.config.segment_size, dtype=jnp.int32)[None, :]
        slots = jnp.broadcast_to(slots, (x.shape[0], slots.shape[1]))
        y = self._attend(x, context, before, slot, slots)
        m, memory = self.memory.token(y[:, 0], memory)
        o = self._gated(y[:, 0], m)
        return o, SegmentState(memory, before, context, state.position + 1)

    def _retrieve(
        self, query: Float[Array, "b c f"], before: Weights
    ) -> Float[Array, "b c d"]:
        """Return tokens computed from the memory's values at the queries."""
        heads = self.config.memory.num_heads
        q = l2_normalise(split_heads(jax.nn.silu(query), heads))
        held = self.memory.read_weights(q, before)
        return self.retrieved(merge_heads(self.retrieved_norm(held)))

    def _context(
        self, x: Float[Array, "b c d"], before: Weights, slots: Int[Array, "b c"]
    ) -> Context:
        """Return keys and values of the tokens and of the memory's reads for them."""
        k, v = self._placed(self.key, x, slots), self.value.heads(x)
        if self.retrieval is None:
            return Context(k, v, k[:, :0], v[:, :0])
        h = self._retrieve(self.retrieval(x), before)
        return Context(k, v, self._placed(self.key, h, slots), self.value.heads(h))

    def _placed(
        self, stream: Stream, x: Array, slots: Int[Array, "b c"]
    ) -> Float[Array, "b c h k"]:
        y = stream.heads(x)
        base = self.config.rotary_base
        return y if base is None else rotary(y, slots, base=base)

    def _attend(
        self,
        x: Float[Array, "b t d"],
        context: Context,
        before: Weights,
        query_slots: Int[Array, "b t"],
        slots: Int[Array, "b c"],
    ) -> Float[Array, "b t d"]:
        """Return attention to the segment so far, the memory and persistent tokens."""
        always = self._always(x, before)
        keys = [self.key.heads(a) for a in always]
        values = [self.value.heads(a) for a in always]
        number = sum(k.shape[1] for k in keys)
        own = context.memory_key.shape[1]
        keys += [context.memory_key, context.key]
        values += [context.memory_value, context.value]
        zero = jnp.zeros((x.shape[0], number), jnp.int32)
        seen = [zero, slots, slots] if own else [zero, slots]
        segment = [zero + ALWAYS_VISIBLE] + [jnp.zeros_like(s) for s in seen[1:]]
        o = attention(
            self._placed(self.query, x, query_slots),
            jnp.concatenate([k.astype(x.dtype) for k in keys], axis=1),
            jnp.concatenate([v.astype(x.dtype) for v in values], axis=1),
            query_position=query_slots,
            query_segment=jnp.zeros_like(query_slots),
            key_position=jnp.concatenate(seen, axis=1),
            key_segment=jnp.concatenate(segment, axis=1),
            implementation="reference",
        )
        y = self.read_out(o, x)
        return x + y if self.config.residual else y

    def _always(
        self, x: Float[Array, "b t d"], before: Weights
    ) -> list[Float[Array, "b _ d"]]:
        """Return the tokens that every token of a segment sees."""
        always = []
        rows = x.shape[0]
        if self.persistent is not None:
            tokens = self.persistent[...].astype(x.dtype)
            always.append(jnp.broadcast_to(tokens[None], (rows, *tokens.shape)))
        if self.learned_queries is not None:
            queries = self.learned_queries[...].astype(x.dtype)
            queries = jnp.broadcast_to(queries[None], (rows, *queries.shape))
            always.append(self._retrieve(queries, before))
        return always

    def _gated(
        self, y: Float[Array, "*b d"], m: Float[Array, "*b d"]
    ) -> Float[Array, "*b d"]:
        m = self.memory_norm(m)
        o = self.attention_norm(y) * jax.nn.silu(m)
        return o + m if self.config.add_memory else o
