"""Attention over a window, and to the best keys of a large memory of older tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from .interface import Layout, MemoryLayer
from .key_value_cache import (
    KeyValueCache,
    extend_cache,
    extend_cache_token,
    held_positions,
    init_cache,
    latest_tokens,
)
from .layer_checks import (
    check_convolution,
    check_even,
    check_positive,
    check_rotary_base,
    resolve_head_size,
)
from .layer_config import Family, RegisteredConfig
from .ops.attention import attention
from .ops.normalisation import l2_normalise
from .ops.rotary import rotary
from .ops.top_k_attention import top_k_attention
from .ops.visibility import Places
from .read_out import ReadOut
from .streams import Tails, init_tails, query_key_value, run_streams, streams_of


@dataclass(frozen=True, kw_only=True)
class MemorizingAttentionConfig(RegisteredConfig):
    """Attention of the Memorizing Transformer (Wu et al. 2022, arXiv:2203.08913).

    Per head, with queries and keys of length 1, a learned scale c, and R the rotary
    position embedding:

        a_t = sum over t - window < s <= t of softmax_s(c R q_t . R k_s) v_s
        m_t = sum_s softmax_s(c q_t . k_s) v_s over the `top_k` best keys of the memory
        y_t = W_o ((1 - sigmoid(g)) a_t + sigmoid(g) m_t)

    The memory holds the last `memory_size` tokens that have left the window, without
    positions. g begins at 0, and m_t is 0 while the memory is empty.

    Differs from it in: a token enters the memory when it leaves the window, and not at
    the end of a training segment, so no token is read twice; the best keys are exact,
    and not found by an approximate search; rotary positions in place of learned biases;
    optional short convolutions on queries, keys and values, so that all layers of the
    zoo can be compared with the same convolution.
    """

    family: ClassVar[Family] = "hierarchical memory"
    small: ClassVar[Mapping[str, Any]] = {"window": 3, "memory_size": 6, "top_k": 2}

    num_heads: int = 4
    head_size: int | None = None
    """Size of each head's queries, keys and values; None: width / num_heads."""
    window: int = 64
    """Number of tokens that a token sees exactly, itself included; published: 512."""
    memory_size: int = 8192
    """Number of older tokens in the memory."""
    top_k: int = 32
    """Number of tokens of the memory that each head of a token reads."""
    stop_gradient: bool = True
    """Let no gradient pass from the memory into the keys and values stored in it; they
    learn from the window alone."""
    initial_scale: float = 1.0
    """Initial value of the scale c."""
    rotary_base: float | None = 10000.0
    """Base of the rotary position embedding in the window; None: no positions."""
    convolution_size: int = 0
    """Taps of the short convolutions on queries, keys and values; 0: none."""

    def __post_init__(self) -> None:
        check_convolution(self.convolution_size)
        for name in ("window", "memory_size", "top_k", "initial_scale"):
            check_positive(name, getattr(self, name))
        if self.rotary_base is not None:
            check_rotary_base(self.rotary_base)

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "MemorizingAttention":
        del layer_index
        return MemorizingAttention(self, width, rngs, depth)


class MemorizingState(NamedTuple):
    """State of `MemorizingAttention`.

    Attributes:
        cache: keys before rotation and values, of the window and of the memory.
        tails: last inputs of each short convolution, float32.
        position: number of tokens of the document so far.
    """

    cache: KeyValueCache
    tails: Tails
    position: Int[Array, "b"]


class _Source(NamedTuple):
    """Keys to read, and where they are."""

    key: Float[Array, "b s h k"]
    value: Float[Array, "b s h k"]
    position: Int[Array, "b s"]
    segment: Int[Array, "b s"]


class MemorizingAttention(MemoryLayer[MemorizingState]):
    """See `MemorizingAttentionConfig`."""

    state_growth = "bounded"

    def __init__(
        self,
        config: MemorizingAttentionConfig,
        width: int,
        rngs: nnx.Rngs,
        depth: int,
    ):
        heads = config.num_heads
        self.config = config
        self.head_size = resolve_head_size(width, heads, config.head_size)
        if config.rotary_base is not None:
            check_even("head_size", self.head_size, "rotary positions rotate pairs")
        inner = heads * self.head_size
        self.query, self.key, self.value = query_key_value(
            width,
            (inner, inner, inner),
            (heads, heads, heads),
            config.convolution_size,
            rngs,
            activation=False,
        )
        self.attention_scale = nnx.Param(
            jnp.full((heads,), config.initial_scale, jnp.float32)
        )
        self.memory_share = nnx.Param(jnp.zeros((heads,), jnp.float32))
        self.read_out = ReadOut(inner, width, rngs, depth=depth)

    @property
    def _most_tokens(self) -> int:
        return self.config.window + self.config.memory_size

    def init_state(self, batch_size: int, max_length: int) -> MemorizingState:
        heads, size = self.config.num_heads, self.head_size
        slots = min(self._most_tokens, max_length)
        return MemorizingState(
            cache=init_cache(batch_size, slots, heads, size, size),
            tails=init_tails(streams_of(self), batch_size),
            position=jnp.zeros((batch_size,), jnp.int32),
        )

    def fresh_rows(
        self, state: MemorizingState, rows: Bool[Array, "b"]
    ) -> MemorizingState:
        # At position 0 no slot is visible, so the cache need not be cleared.
        fresh = self.init_state(rows.shape[0], 0)._replace(cache=state.cache)
        return self.choose_rows(rows, fresh, state)

    def capacity(self, state: MemorizingState) -> int | None:
        slots = state.cache.key.shape[-3]
        return None if slots >= self._most_tokens else slots

    def sequence(
        self, x: Float[Array, "b t d"], state: MemorizingState, layout: Layout
    ) -> tuple[Float[Array, "b t d"], MemorizingState]:
        time = x.shape[1]
        place, position = layout.positions(state.position, time)
        (q, k, v), tails = self._heads(x, state, layout)
        segment = layout.segments(time)
        if segment is None:
            segment = jnp.zeros_like(place)
        call = _Source(k, v, place, segment)
        recent = latest_tokens(state.cache, state.position, self.config.window)
        older = (*state.cache, held_positions(state.cache.key.shape[1], state.position))
        window, memory = (_joined(_carried(*held), call) for held in (recent, older))
        o = self._attend(q, place, segment, window, memory)
        cache = extend_cache(state.cache, k, v, position, layout)
        return self.read_out(o, x), MemorizingState(cache, tails, position)

    def token(
        self, x: Float[Array, "b d"], state: MemorizingState
    ) -> tuple[Float[Array, "b d"], MemorizingState]:
        x = x[:, None, :]
        place, after = state.position[:, None], state.position + 1
        (q, k, v), tails = self._heads(x, state, Layout())
        cache = state.cache
        window = memory = _Source(k, v, place, jnp.zeros_like(place))
        slots = cache.key.shape[1]
        if slots:
            cache = extend_cache_token(cache, k[:, 0], v[:, 0], state.position)
            window = _carried(*latest_tokens(cache, after, self.config.window))
            memory = _carried(*cache, held_positions(slots, after))
        o = self._attend(q, place, jnp.zeros_like(place), window, memory)
        return self.read_out(o, x)[:, 0], MemorizingState(cache, tails, after)

    def _heads(
        self, x: Float[Array, "b t d"], state: MemorizingState, layout: Layout
    ) -> tuple[tuple[Array, Array, Array], Tails]:
        """Return scaled queries and keys of length 1, and values."""
        (q, k, v), tails = run_streams(streams_of(self), x, state.tails, layout)
        scale = self.attention_scale[...].astype(q.dtype)[None, None, :, None]
        return (l2_normalise(q) * scale, l2_normalise(k), v), tails

    def _attend(
        self,
        q: Float[Array, "b t h k"],
        place: Int[Array, "b t"],
        segment: Int[Array, "b t"],
        window: _Source,
        memory: _Source,
    ) -> Float[Array, "b t h k"]:
        """Return the reads of the window and of the memory, mixed by the gate."""
        config = self.config
        local = attention(
            self._placed(q, place),
            self._placed(window.key.astype(q.dtype), window.position),
            window.value.astype(q.dtype),
            scale=1.0,
            window=config.window,
            query_position=place,
            query_segment=segment,
            key_position=window.position,
            key_segment=window.segment,
        )
        stored = (memory.key.astype(q.dtype), memory.value.astype(q.dtype))
        if config.stop_gradient:
            stored = jax.lax.stop_gradient(stored)
        recalled = top_k_attention(
            q,
            *stored,
            # The newest token that has left the window is `window` tokens back.
            Places(segment, place - config.window, memory.segment, memory.position),
            top_k=config.top_k,
            window=config.memory_size,
        )
        gate = jax.nn.sigmoid(self.memory_share[...])[None, None, :, None]
        mixed = (1 - gate) * local + gate * recalled
        return mixed.astype(q.dtype)

    def _placed(
        self, x: Float[Array, "b t h k"], place: Int[Array, "b t"]
    ) -> Float[Array, "b t h k"]:
        base = self.config.rotary_base
        return x if base is None else rotary(x, place, base=base)


def _carried(key: Array, value: Array, position: Array) -> _Source:
    """Return the slots of a cache; a negative position marks an empty one."""
    return _Source(key, value, position, jnp.where(position >= 0, 0, -1))


def _joined(first: _Source, second: _Source) -> _Source:
    """Return two sources one after the other, in the types of the second."""
    return _Source(
        *(
            jnp.concatenate([a.astype(b.dtype), b], axis=1)
            for a, b in zip(first, second, strict=True)
        )
    )
