"""Recurrent Memory Transformer: memory tokens pass from segment to segment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from .attention import AttentionConfig
from .projection import learned_tokens
from .segment_recurrence import SegmentConfig, SegmentRecurrence, segment_norm


@dataclass(frozen=True, kw_only=True)
class RMTConfig(SegmentConfig):
    """Recurrent Memory Transformer (Bulatov et al. 2022, arXiv:2207.06881).

    With the segments X_s of `segment_size` tokens of a document and memory tokens M_s:

        [_, Y_s, W_s] = blocks([M_s, X_s, M_s])
        M_(s+1) = norm(W_s)

    The blocks read causally, so the first M_s is read by all tokens, and the last M_s
    reads all tokens. M_1 is learned. The layer's output is Y_s - X_s, which the
    outer block adds to its input.

    Differs from it in: the blocks are any layers of the zoo; memory tokens of one end
    see each other causally; a norm with a learned scale keeps the memory at the size
    of the blocks' inputs (in the published code, the model's last norm); the memory is
    part of one layer, so that a model can have several.
    """

    small: ClassVar[Mapping[str, Any]] = {
        "layers": (AttentionConfig(num_heads=2),),
        "segment_size": 6,
        "memory_tokens": 2,
    }

    memory_tokens: int = 16
    """Number of memory tokens; 0: none, so that segments do not see each other."""
    stop_gradient: bool = False
    """Stop gradients between segments."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_tokens("memory_tokens")

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "RMT":
        return RMT(self, width, rngs, layer_index, depth)


class RMT(SegmentRecurrence):
    """See `RMTConfig`."""

    def __init__(
        self,
        config: Any,
        width: int,
        rngs: nnx.Rngs,
        layer_index: int | Array,
        depth: int,
    ):
        super().__init__(config, width, rngs, layer_index, depth)
        number = config.memory_tokens
        self.initial_memory = learned_tokens(number, width, rngs)
        self.memory_norm = segment_norm(config, width, number)
        self.stop_gradient = config.stop_gradient

    def new_memory(self, batch_size: int) -> Float[Array, "b m d"]:
        if self.initial_memory is None:
            return jnp.zeros((batch_size, 0, self.width), jnp.float32)
        memory = self.initial_memory[...]
        return jnp.broadcast_to(memory[None], (batch_size, *memory.shape))

    def readable(self, finished: Int[Array, "b"]) -> Bool[Array, "b m"]:
        memory = self.initial_memory
        tokens = 0 if memory is None else memory[...].shape[0]
        return jnp.ones((finished.shape[0], tokens), bool)

    def write_tokens(self, memory: Float[Array, "b m d"]) -> Float[Array, "b m d"]:
        return memory

    def updated(
        self, memory: Float[Array, "b m d"], written: Float[Array, "b m d"]
    ) -> Float[Array, "b m d"]:
        if self.memory_norm is None:
            return memory
        new = self.memory_norm(written)
        return jax.lax.stop_gradient(new) if self.stop_gradient else new
