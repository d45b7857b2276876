"""Infini-attention: attention within a segment, and a matrix of all earlier ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from memzoo.errors import InputError

from .attention import Attention, AttentionState, SoftmaxAttentionConfig
from .interface import Layout
from .key_value_cache import extend_cache, extend_cache_token, held_positions
from .layer_checks import check_positive
from .layer_config import Family
from .ops.compressive_memory import (
    CompressiveTokens,
    Write,
    compressive_chunkwise,
    compressive_step,
    new_compressive_memory,
)
from .regression import Regression
from .streams import run_streams, streams_of


@dataclass(frozen=True, kw_only=True)
class InfiniAttentionConfig(SoftmaxAttentionConfig):
    """Infini-attention (Munkhdalai et al. 2024, arXiv:2404.07143).

    Per head, over segments of `segment_size` tokens of a document, with
    f(x) = elu(x) + 1 of queries and keys without positions, M and z the memory before
    the segment, and a learned g = sigmoid(b):

        a_t = softmax attention to the tokens s <= t of the segment
        m_t = f(q_t) M / (f(q_t) . z)
        y_t = W_o (g m_t + (1 - g) a_t)
        M <- M + sum_s f(k_s) e_s^T,  z <- z + sum_s f(k_s)    after the segment

    `write` chooses e_s: v_s (`sum`), or v_s - f(k_s) M / (f(k_s) . z) (`delta`). Since
    z always grows, a value that two segments write with `delta` is read at half its
    size. `exact_delta` is ours and mends this: f has length 1, there is no z, and every
    token writes e_s = v_s - f(k_s) M_(s-1) by the delta rule.

    Differs from it in: 1e-6 is added to f(q) . z; rotary positions count from the
    document's start, which attention within a segment cannot tell.
    """

    family: ClassVar[Family] = "hierarchical memory"
    regression: ClassVar[Regression | None] = None
    small: ClassVar[Mapping[str, Any]] = {"num_heads": 2, "segment_size": 5}

    segment_size: int = 64
    """Tokens per segment; changes the result."""
    write: Write = "delta"
    """Sums that a segment adds to the memory."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("segment_size", self.segment_size)
        if self.key_value_heads not in (None, self.num_heads):
            raise InputError(
                f"key_value_heads is {self.key_value_heads}, but infini_attention has "
                "a memory per head; leave it out"
            )
        if self.persistent_tokens:
            raise InputError(
                f"persistent_tokens is {self.persistent_tokens}, but infini_attention "
                "has none; leave it out"
            )

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "InfiniAttention":
        del layer_index
        return InfiniAttention(self, width, rngs, depth)


class InfiniAttention(Attention):
    """See `InfiniAttentionConfig`; the cache holds the last segment."""

    config: InfiniAttentionConfig

    def __init__(
        self, config: InfiniAttentionConfig, width: int, rngs: nnx.Rngs, depth: int
    ):
        super().__init__(config, width, rngs, depth, window=config.segment_size)
        self.memory_share = nnx.Param(jnp.zeros((config.num_heads,), jnp.float32))

    def init_state(self, batch_size: int, max_length: int) -> AttentionState:
        size = self.head_size
        memory = new_compressive_memory(batch_size, self.groups, size, size)
        return super().init_state(batch_size, max_length)._replace(memory=memory)

    def sequence(
        self, x: Float[Array, "b t d"], state: AttentionState, layout: Layout
    ) -> tuple[Float[Array, "b t d"], AttentionState]:
        time, slots = x.shape[1], state.cache.key.shape[1]
        size = self.config.segment_size
        place, position = layout.positions(state.position, time)
        (q, k, v), tails = run_streams(streams_of(self), x, state.tails, layout)
        remembered, memory = compressive_chunkwise(
            CompressiveTokens(q, k, v),
            state.memory,
            segment_size=size,
            write=self.config.write,
            reset=layout.reset,
            valid=layout.valid(time),
        )
        q, k = self._placed(q, place), self._placed(k, place)
        cache = extend_cache(state.cache, k, v, position, layout)
        # A segment's number is the index in the call of its first token, plus `size`.
        number = jnp.arange(time, dtype=jnp.int32)[None, :] - place % size + size
        held = held_positions(slots, state.position) if slots else place[:, :0]
        old = held - state.position[:, None] - held % size + size
        local = self._attend(
            q,
            jnp.concatenate([state.cache.key.astype(k.dtype), k], axis=1),
            jnp.concatenate([state.cache.value.astype(v.dtype), v], axis=1),
            query_position=place,
            query_segment=number,
            key_position=jnp.concatenate([held, place], axis=1),
            key_segment=jnp.concatenate(
                [jnp.where(held >= 0, old, -1), number], axis=1
            ),
        )
        y = self.read_out(self._mixed(remembered, local), x)
        return y, AttentionState(cache, tails, position, memory)

    def token(
        self, x: Float[Array, "b d"], state: AttentionState
    ) -> tuple[Float[Array, "b d"], AttentionState]:
        x = x[:, None, :]
        place, slots = state.position[:, None], state.cache.key.shape[1]
        (q, k, v), tails = run_streams(streams_of(self), x, state.tails, Layout())
        remembered, memory = compressive_step(
            CompressiveTokens(q[:, 0], k[:, 0], v[:, 0]),
            state.memory,
            segment_size=self.config.segment_size,
            write=self.config.write,
        )
        q, k = self._placed(q, place), self._placed(k, place)
        cache = state.cache
        if slots:
            cache = extend_cache_token(cache, k[:, 0], v[:, 0], state.position)
            k, v = cache.key.astype(k.dtype), cache.value.astype(v.dtype)
            held = held_positions(slots, state.position + 1)
        else:
            held = place
        local = self._attend(
            q,
            k,
            v,
            query_position=place,
            query_segment=jnp.zeros_like(place),
            key_position=held,
            key_segment=self._of_segment(held, place),
        )
        y = self.read_out(self._mixed(remembered[:, None], local), x)[:, 0]
        return y, AttentionState(cache, tails, state.position + 1, memory)

    def _of_segment(
        self, held: Int[Array, "b s"], place: Int[Array, "b 1"]
    ) -> Int[Array, "b s"]:
        """Return 0 for cached tokens of the segment of `place`, -1 for others."""
        size = self.config.segment_size
        return jnp.where((held >= 0) & (held // size == place // size), 0, -1)

    def _mixed(
        self, remembered: Float[Array, "b t h v"], local: Float[Array, "b t h v"]
    ) -> Float[Array, "b t h v"]:
        share = jax.nn.sigmoid(self.memory_share[...])[None, None, :, None]
        share = share.astype(local.dtype)
        return share * remembered + (1 - share) * local
