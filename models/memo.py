"""Memo: summaries of all segments accumulate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from .attention import AttentionConfig
from .layer_checks import check_positive
from .projection import learned_tokens
from .segment_recurrence import SegmentConfig, SegmentRecurrence, segment_norm


@dataclass(frozen=True, kw_only=True)
class MemoConfig(SegmentConfig):
    """Memo, memory by summary tokens (Gupta et al. 2025, arXiv:2510.19732).

    With the segments X_s of a document, learned tokens E and summaries S_s:

        [.., Y_s, Z_s] = blocks([S_1 .. S_(s-1), X_s, E])
        S_s = norm(Z_s)

    The blocks read causally. Summaries never change once written. The layer's output is
    Y_s - X_s, which the outer block adds to its input.

    Differs from it in: the summaries of the last `kept_segments` segments are kept, so
    that the state is bounded; with at least as many as a document has, this is the
    paper's. Segments have one length, also in training, and gradients are stopped at
    all summaries or at none. The blocks are any layers of the zoo, and the memory is
    part of one layer. A separate norm writes the summaries (published: the model's last
    norm).
    """

    small: ClassVar[Mapping[str, Any]] = {
        "layers": (AttentionConfig(num_heads=2),),
        "segment_size": 6,
        "summary_tokens": 2,
        "kept_segments": 2,
    }

    summary_tokens: int = 8
    """Number of summary tokens per segment; 0: none, so that segments do not see each
    other."""
    kept_segments: int = 16
    """Number of segments whose summaries are kept; the oldest leaves first."""
    stop_gradient: bool = False
    """Stop gradients at the summaries."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_tokens("summary_tokens")
        check_positive("kept_segments", self.kept_segments)

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "Memo":
        return Memo(self, width, rngs, layer_index, depth)


class Memo(SegmentRecurrence):
    """See `MemoConfig`."""

    def __init__(
        self,
        config: MemoConfig,
        width: int,
        rngs: nnx.Rngs,
        layer_index: int | Array,
        depth: int,
    ):
        super().__init__(config, width, rngs, layer_index, depth)
        number = config.summary_tokens
        self.learned_queries = learned_tokens(number, width, rngs)
        self.memory_norm = segment_norm(config, width, number)
        self.kept = config.kept_segments
        self.summary_tokens = number
        self.stop_gradient = config.stop_gradient

    def new_memory(self, batch_size: int) -> Float[Array, "b m d"]:
        tokens = self.kept * self.summary_tokens
        return jnp.zeros((batch_size, tokens, self.width), jnp.float32)

    def readable(self, finished: Int[Array, "b"]) -> Bool[Array, "b m"]:
        # The newest summary is at the end.
        age = jnp.arange(self.kept, 0, -1, dtype=jnp.int32)
        age = jnp.repeat(age, self.summary_tokens)[None, :]
        return age <= finished[:, None]

    def write_tokens(self, memory: Float[Array, "b m d"]) -> Float[Array, "b n d"]:
        if self.learned_queries is None:
            return memory[:, :0]
        tokens = self.learned_queries[...]
        return jnp.broadcast_to(tokens[None], (memory.shape[0], *tokens.shape))

    def updated(
        self, memory: Float[Array, "b m d"], written: Float[Array, "b n d"]
    ) -> Float[Array, "b m d"]:
        if self.memory_norm is None:
            return memory
        new = self.memory_norm(written).astype(memory.dtype)
        if self.stop_gradient:
            new = jax.lax.stop_gradient(new)
        return jnp.concatenate([memory[:, new.shape[1] :], new], axis=1)
