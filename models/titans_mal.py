"""Titans, memory as a layer: the long-term memory, then window attention."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array, Float

from .interface import Layout
from .layer_checks import check_positive
from .layer_config import Family, RegisteredConfig
from .projection import RMSNorm
from .sliding_window_attention import SlidingWindowAttentionConfig
from .titans_lmm import SMALL_MEMORY, TitansLMMConfig
from .titans_mag import MemoryAndAttention, PairState, windowed


@dataclass(frozen=True, kw_only=True)
class TitansMALConfig(RegisteredConfig):
    """Titans, memory as a layer (Behrouz et al. 2024, arXiv:2501.00663).

    Equations 29 to 31 with the residual connections of section 4.4, where x~ is the
    persistent tokens and then x, M the long-term memory of `TitansLMMConfig` and A the
    window attention:

        m = M(x~)
        o = m + A(norm(x + m))

    The block adds o to its input. Without `residual`, o = A(norm(m)): every read of the
    memory then passes through the attention.

    Differs from it in: a norm between the two; attention sees persistent keys and
    values that are learned directly, not the memory's outputs for the persistent
    tokens; section 4.4 asks for residual connections without saying where, so their
    places are a choice (as printed: `residual` False).
    """

    family: ClassVar[Family] = "neural memory"
    small: ClassVar[Mapping[str, Any]] = {
        "memory": SMALL_MEMORY,
        "attention": SlidingWindowAttentionConfig(window=6),
    }

    memory: TitansLMMConfig = field(default_factory=TitansLMMConfig)
    """Config of the long-term memory."""
    attention: SlidingWindowAttentionConfig = field(default_factory=windowed)
    """Config of the attention, the short-term memory."""
    residual: bool = True
    """Connect the two parts with residuals; False: equation 31 as printed."""
    norm_epsilon: float = 1e-5
    """Epsilon of the norm: added to the mean square. Memory and attention have their
    own."""

    def __post_init__(self) -> None:
        check_positive("norm_epsilon", self.norm_epsilon)

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
        self.memory_norm = RMSNorm(width, config.norm_epsilon)

    def sequence(
        self, x: Float[Array, "b t d"], state: PairState, layout: Layout
    ) -> tuple[Float[Array, "b t d"], PairState]:
        m, memory = self.memory.sequence(x, state.memory, layout)
        a, attention = self.attention.sequence(
            self._between(x, m), state.attention, layout._replace(prefix=None)
        )
        _, position = layout.positions(state.position, x.shape[1])
        return self._sum(m, a), PairState(memory, attention, position)

    def token(
        self, x: Float[Array, "b d"], state: PairState
    ) -> tuple[Float[Array, "b d"], PairState]:
        m, memory = self.memory.token(x, state.memory)
        a, attention = self.attention.token(self._between(x, m), state.attention)
        return self._sum(m, a), PairState(memory, attention, state.position + 1)

    def _between(
        self, x: Float[Array, "*b d"], m: Float[Array, "*b d"]
    ) -> Float[Array, "*b d"]:
        """Return the attention's input."""
        return self.memory_norm(x + m if self.config.residual else m)

    def _sum(
        self, m: Float[Array, "*b d"], a: Float[Array, "*b d"]
    ) -> Float[Array, "*b d"]:
        """Return the layer's output; the block adds it to its input."""
        return m + a if self.config.residual else a
