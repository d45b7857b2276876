"""Titans, memory as a gate: window attention in parallel with the long-term memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from .capacity import smallest_capacity
from .interface import Layout, MemoryLayer
from .layer_checks import check_positive
from .layer_config import Family, RegisteredConfig
from .projection import RMSNorm, output_gain
from .sliding_window_attention import SlidingWindowAttentionConfig
from .titans_lmm import SMALL_MEMORY, TitansLMMConfig


def windowed() -> SlidingWindowAttentionConfig:
    """Return the attention of Titans' hybrids: a window and persistent tokens."""
    return SlidingWindowAttentionConfig(persistent_tokens=4)


@dataclass(frozen=True, kw_only=True)
class TitansMAGConfig(RegisteredConfig):
    """Titans, memory as a gate (Behrouz et al. 2024, arXiv:2501.00663).

    Equations 26 to 28, with x~ the persistent tokens and then x:

        y = window attention(x~)
        m = M(x~)
        o = norm(y) * silu(norm(m))

    with the long-term memory M of `TitansLMMConfig`, and norms with a learned scale.

    Differs from it in: attention sees persistent keys and values that are learned
    directly, not through its projections; the product's non-linearity, which the paper
    does not name, is SiLU on the memory's side.
    """

    family: ClassVar[Family] = "neural memory"
    small: ClassVar[Mapping[str, Any]] = {
        "memory": SMALL_MEMORY,
        "attention": SlidingWindowAttentionConfig(window=6, persistent_tokens=2),
    }

    memory: TitansLMMConfig = field(default_factory=TitansLMMConfig)
    """Config of the long-term memory."""
    attention: SlidingWindowAttentionConfig = field(default_factory=windowed)
    """Config of the attention, the short-term memory."""
    norm_epsilon: float = 1e-5
    """Epsilon of the two norms: added to the mean square. Memory and attention have
    their own."""

    def __post_init__(self) -> None:
        check_positive("norm_epsilon", self.norm_epsilon)

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "TitansMAG":
        return TitansMAG(self, width, rngs, layer_index, depth)


class PairState(NamedTuple):
    """State of a layer with a long-term memory and an attention.

    Attributes:
        memory: state of the long-term memory.
        attention: state of the attention.
        position: number of tokens of the document so far.
    """

    memory: Any
    attention: Any
    position: Int[Array, "b"]


class MemoryAndAttention(MemoryLayer[PairState]):
    """A long-term memory and a window attention in one layer."""

    state_growth = "bounded"

    def __init__(
        self,
        config: Any,
        width: int,
        rngs: nnx.Rngs,
        layer_index: int | Array,
        depth: int,
    ):
        self.config = config
        self.memory: MemoryLayer = config.memory.build(
            width, rngs, layer_index=layer_index, depth=depth
        )
        # Only the memory reads a prefix non-causally; attention is causal.
        self.accepts_prefix = self.memory.accepts_prefix
        self.attention: MemoryLayer = config.attention.build(
            width, rngs, layer_index=layer_index, depth=depth
        )

    def init_state(self, batch_size: int, max_length: int) -> PairState:
        return PairState(
            self.memory.init_state(batch_size, max_length),
            self.attention.init_state(batch_size, max_length),
            jnp.zeros((batch_size,), jnp.int32),
        )

    def fresh_rows(self, state: PairState, rows: Bool[Array, "b"]) -> PairState:
        return PairState(
            self.memory.fresh_rows(state.memory, rows),
            self.attention.fresh_rows(state.attention, rows),
            jnp.where(rows, 0, state.position),
        )

    def capacity(self, state: PairState) -> int | None:
        parts = (self.memory, state.memory), (self.attention, state.attention)
        return smallest_capacity(layer.capacity(held) for layer, held in parts)


class TitansMAG(MemoryAndAttention):
    """See `TitansMAGConfig`."""

    def __init__(
        self,
        config: TitansMAGConfig,
        width: int,
        rngs: nnx.Rngs,
        layer_index: int | Array,
        depth: int,
    ):
        super().__init__(config, width, rngs, layer_index, depth)
        self.attention_norm = RMSNorm(width, config.norm_epsilon)
        # Initially of the size that a map into the residual stream would give.
        scale = self.attention_norm.scale
        scale[...] = jnp.full_like(scale[...], output_gain(depth))
        self.memory_norm = RMSNorm(width, config.norm_epsilon)

    def sequence(
        self, x: Float[Array, "b t d"], state: PairState, layout: Layout
    ) -> tuple[Float[Array, "b t d"], PairState]:
        y, attention = self.attention.sequence(
            x, state.attention, layout._replace(prefix=None)
        )
        m, memory = self.memory.sequence(x, state.memory, layout)
        _, position = layout.positions(state.position, x.shape[1])
        return self._gated(y, m), PairState(memory, attention, position)

    def token(
        self, x: Float[Array, "b d"], state: PairState
    ) -> tuple[Float[Array, "b d"], PairState]:
        y, attention = self.attention.token(x, state.attention)
        m, memory = self.memory.token(x, state.memory)
        return self._gated(y, m), PairState(memory, attention, state.position + 1)

    def _gated(
        self, y: Float[Array, "*b d"], m: Float[Array, "*b d"]
    ) -> Float[Array, "*b d"]:
        return self.attention_norm(y) * jax.nn.silu(self.memory_norm(m))
