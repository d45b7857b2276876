"""Titans with its memory as a layer: the long-term memory, then window attention."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array, Float

from .interface import Layout
from .layer_config import Family, RegisteredConfig
from .projection import RMSNorm
from .sliding_window_attention import SlidingWindowAttentionConfig
from .titans_lmm import SMALL_MEMORY, TitansLMMConfig
from .titans_mag import MemoryAndAttention, PairState, windowed


@dataclass(frozen=True, kw_only=True)
class TitansMALConfig(RegisteredConfig):
    """Titans, memory as a layer (Behrouz et al. 2024, arXiv:2501.00663).

    Equations 29 to 31, with x~ the persistent tokens and then x:

        y = M(x~)
        o = window attention(norm(y))

    with the long-term memory M of `TitansLMMConfig`.

    Differs from it in: a norm between the two; attention sees persistent keys and
    values that are learned as such, in place of what the memory makes of the
    persistent tokens.
    """

    family: ClassVar[Family] = "neural memory"
    small: ClassVar[Mapping[str, Any]] = {
        "memory": SMALL_MEMORY,
        "attention": SlidingWindowAttentionConfig(window=6),
    }

    memory: TitansLMMConfig = field(default_factory=TitansLMMConfig)
    """The long-term memory."""
    attention: SlidingWindowAttentionConfig = field(default_factory=windowed)
    """The short-term memory."""

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "TitansMAL":
        return TitansMAL(self, width, rngs, layer_index, depth)


class TitansMAL(MemoryAndAttention):
    """See `TitansMALConfig`."""

    def __init__(
        self,
        config: TitansMALConfig,
        width: int,
        rngs: nnx.Rngs,
        layer_index: int | Array,
        depth: int,
    ):
        super().__init__(config, width, rngs, layer_index, depth)
        self.memory_norm = RMSNorm(width)

    def sequence(
        self, x: Float[Array, "b t d"], state: PairState, layout: Layout
    ) -> tuple[Float[Array, "b t d"], PairState]:
        y, memory = self.memory.sequence(x, state.memory, layout)
        o, attention = self.attention.sequence(
            self.memory_norm(y), state.attention, layout._replace(prefix=None)
        )
        _, position = layout.positions(state.position, x.shape[1])
        return o, PairState(memory, attention, position)

    def token(
        self, x: Float[Array, "b d"], state: PairState
    ) -> tuple[Float[Array, "b d"], PairState]:
        y, memory = self.memory.token(x, state.memory)
        o, attention = self.attention.token(self.memory_norm(y), state.attention)
        return o, PairState(memory, attention, state.position + 1)
