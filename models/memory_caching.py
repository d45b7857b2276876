"""Memory caching: the memories at the ends of segments, read beside the current one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PyTree

from memzoo.errors import InputError

from .associative_memory import AssociativeMemory, AssociativeState
from .cached_memories import (
    Cache,
    Snapshots,
    empty_cache,
    join,
    read_cached,
    update_cache,
    visible_snapshots,
    weigh,
    write_segments,
)
from .capacity import check_slots
from .gated_delta_net import GatedDeltaNetConfig
from .interface import Layout, MemoryLayer
from .layer_checks import check_choice, check_positive
from .layer_config import Family, LayerConfig, RegisteredConfig
from .memory_inputs import MemoryInputs
from .ops.recurrence import select
from .ops.segment_pieces import cut_pieces, take
from .projection import projection
from .streams import Tails

Gate = Literal["softmax", "sparse", "residual"]
Start = Literal["continue", "initial"]


@dataclass(frozen=True, kw_only=True)
class MemoryCachingConfig(RegisteredConfig):
    """Memory caching (Behrouz et al. 2026, arXiv:2602.24281), over any memory.

    A document is cut into segments of `segment_size` tokens. M_t is the memory of the
    layer `memory` after token t, C_i the memory after segment i, x_i the mean of the
    layer's inputs in segment i, and x_t the mean in the current segment up to token t:

        s_i = (W_u u_t) . x_i for earlier segments i, s = (W_u u_t) . x_t
        g = softmax over s and all s_i
        o_t = g M_t(q_t) + sum over i of g_i C_i(q_t)

    u_t is the layer's input, and M(q) reads M at the query q. This is gated residual
    memory. With gate `sparse` (sparse selective caching) only the `top_k` segments with
    the largest s_i are read; with `residual` every g is 1. Everything before and after
    the memory is as in the layer `memory`.

    Differs from it in: the mean of the current segment is over the tokens so far, so
    that no token sees a later one; the mean is of the layer's inputs; the cache may be
    a ring of `cache_size` segments. The paper's memory soup, one read of the mean of
    the memories, equals this for matrix memories and is not a separate option. Known to
    us from public notes on the paper.
    """

    family: ClassVar[Family] = "hierarchical memory"
    small: ClassVar[Mapping[str, Any]] = {
        "memory": GatedDeltaNetConfig(num_heads=2, chunk_size=8),
        "segment_size": 4,
    }

    memory: LayerConfig = field(default_factory=GatedDeltaNetConfig)
    """Config of the memory to cache."""
    segment_size: int = 256
    """Tokens after which the memory is cached."""
    cache_size: int | None = None
    """Number of latest segments that are kept; None: all, so that the state grows with
    the document."""
    gate: Gate = "softmax"
    """softmax: weigh the current and all cached memories; sparse: the current one and
    the best top_k; residual: add them."""
    top_k: int = 4
    """Cached memories that gate sparse reads; 0: none."""
    start: Start = "continue"
    """Memory at the start of a segment. continue: the last memory; initial: that of a
    new document, so that a segment's memory holds this segment alone."""

    def __post_init__(self) -> None:
        if isinstance(self.memory, type) or not isinstance(self.memory, LayerConfig):
            raise InputError(
                f"memory is {self.memory!r}; give a layer config, such as "
                "GatedDeltaNetConfig()"
            )
        check_positive("segment_size", self.segment_size)
        if self.cache_size is not None and self.cache_size < 1:
            raise InputError(
                f"cache_size is {self.cache_size}; give 1 or more, or None for all"
            )
        if self.top_k < 0:
            raise InputError(f"top_k is {self.top_k}; give 0 or more")
        check_choice("gate", self.gate, get_args(Gate))
        check_choice("start", self.start, get_args(Start))

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "MemoryCaching":
        memory = self.memory.build(width, rngs, layer_index=layer_index, depth=depth)
        return MemoryCaching(self, _check_memory(memory), width, rngs)


class CachingState(NamedTuple):
    """State of `MemoryCaching`.

    Attributes:
        memory: the current memory.
        cache: memories of earlier segments; segment i is in slot i modulo the slots.
        total: sum of the layer's inputs in the current segment, float32.
        tails: last inputs of the short convolutions, float32.
        position: number of tokens of the document so far.
    """

    memory: PyTree[Array]
    cache: Cache
    total: Float[Array, "b d"]
    tails: Tails
    position: Int[Array, "b"]


class MemoryCaching(MemoryLayer[CachingState]):
    """See `MemoryCachingConfig`."""

    def __init__(
        self,
        config: MemoryCachingConfig,
        memory: AssociativeMemory,
        width: int,
        rngs: nnx.Rngs,
    ):
        self.config = config
        self.memory = memory
        self.width = width
        self.state_growth = "linear" if config.cache_size is None else "bounded"
        gated = config.gate != "residual"
        self.score = nnx.data(projection(width, width, rngs) if gated else None)

    def init_state(self, batch_size: int, max_length: int) -> CachingState:
        check_slots(max_length)
        slots = self.config.cache_size
        if slots is None:
            slots = -(-max_length // self.config.segment_size)
        memory = self.memory.init_memory(batch_size)
        return CachingState(
            memory=memory,
            cache=empty_cache(memory, slots, self.width),
            total=jnp.zeros((batch_size, self.width), jnp.float32),
            tails=self.memory.init_tails(batch_size),
            position=jnp.zeros((batch_size,), jnp.int32),
        )

    def fresh_rows(self, state: CachingState, rows: Bool[Array, "b"]) -> CachingState:
        fresh = self.init_state(rows.shape[0], 0)
        fresh = fresh._replace(cache=jax.tree.map(jnp.zeros_like, state.cache))
        return self.choose_rows(rows, fresh, state)

    def capacity(self, state: CachingState) -> int | None:
        if self.config.cache_size is not None:
            return None
        return state.cache.mean.shape[-2] * self.config.segment_size

    def sequence(
        self, x: Float[Array, "b t d"], state: CachingState, layout: Layout
    ) -> tuple[Float[Array, "b t d"], CachingState]:
        time, size = x.shape[1], self.config.segment_size
        if time == 0:
            return x, state
        inputs, tails = self._inputs(x, state, layout)
        place, position = layout.positions(state.position, time)
        document = layout.segments(time)
        if document is None:
            document = jnp.zeros_like(place)
        pieces = cut_pieces(place, layout.valid(time), size)
        reset = layout.reset
        if self.config.start == "initial":
            begins = place % size == 0
            reset = begins if reset is None else reset | begins
        read, mean, after, memory, total = write_segments(
            self.memory, inputs, x, place, pieces, reset, state.memory, state.total
        )
        made = Snapshots(
            cache=after,
            segment=jnp.where(pieces.ends, take(place, pieces.last) // size, -1),
            document=take(document, pieces.last),
        )
        cached = join(state.cache, state.position // size, made)
        seen = visible_snapshots(
            cached, place // size, document, self.config.cache_size
        )
        read = self._mix(x, read, mean, inputs, cached.cache, seen)
        cache = update_cache(cached, state.cache, position // size, document, layout)
        y = self.memory.finish(read, inputs, x)
        return y, CachingState(memory, cache, total, tails, position)

    def token(
        self, x: Float[Array, "b d"], state: CachingState
    ) -> tuple[Float[Array, "b d"], CachingState]:
        size, x = self.config.segment_size, x[:, None]
        inputs, tails = self._inputs(x, state, Layout())
        place = state.position % size
        memory = state.memory
        if self.config.start == "initial":
            new = self.memory.init_memory(x.shape[0])
            memory = select(place == 0, new, memory)
        read, memory = self.memory.write_and_read_token(inputs, memory)
        total = jnp.where(place[:, None] == 0, 0, state.total)
        total = total + x[:, 0].astype(jnp.float32)
        mean = total / (place + 1).astype(jnp.float32)[:, None]
        held = join(state.cache, state.position // size)
        index = (state.position // size)[:, None]
        document = jnp.zeros_like(index)
        seen = visible_snapshots(held, index, document, self.config.cache_size)
        read = self._mix(x, read, mean[:, None], inputs, state.cache, seen)
        y = self.memory.finish(read, inputs, x)[:, 0]
        slots = state.cache.mean.shape[1]
        cache = state.cache
        if slots:
            slot = jnp.arange(slots)[None, :] == index % slots
            slot = slot & (place == size - 1)[:, None]
            every = jax.tree.map(lambda a: a[:, None], Cache(memory, mean))
            cache = select(slot, every, cache)
        return y, CachingState(memory, cache, total, tails, state.position + 1)

    def _inputs(
        self, x: Float[Array, "b t d"], state: CachingState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        inner = AssociativeState(state.memory, state.tails, state.position)
        return self.memory.inputs(x, inner, layout)

    def _mix(
        self,
        x: Float[Array, "b t d"],
        read: Float[Array, "b t h v"],
        mean: Float[Array, "b t d"],
        inputs: MemoryInputs,
        cache: Cache,
        seen: Bool[Array, "b t m"],
    ) -> Float[Array, "b t h v"]:
        """Return the weighted reads of the current memory and of the cached ones.

        Args:
            x: the layer's input.
            read: reads of the current memory.
            mean: mean input of each token's segment so far.
            inputs: inputs of the memory.
            cache: cached memories.
            seen: mask of the cached memories that each token may read.
        """
        query = None if self.score is None else self.score(x).astype(jnp.float32)
        top_k = self.config.top_k if self.config.gate == "sparse" else None
        current, weight = weigh(query, mean, cache.mean, seen, top_k)
        wide = read.astype(jnp.promote_types(read.dtype, jnp.float32))
        read = wide * current[..., None, None]
        return read + read_cached(self.memory, inputs.query, cache.memory, weight)


def _check_memory(layer: MemoryLayer[Any]) -> AssociativeMemory:
    """Return the layer, if its memory can be cached.

    Raises:
        InputError: it cannot.
    """
    name = type(layer).__name__
    if not isinstance(layer, AssociativeMemory):
        raise InputError(
            f"memory is {name}, not an AssociativeMemory; choose a layer with a memory "
            "that is written at keys, such as gated_delta_net"
        )
    if layer.accepts_prefix:
        raise InputError(
            f"memory is {name} with a prefix, which memory_caching does not read; set "
            "prefix to False or choose another layer"
        )
    return layer
