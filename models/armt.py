"""Associative Recurrent Memory Transformer: each block has a delta-rule memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array

from .attention import AttentionConfig
from .layer_checks import check_positive
from .rmt import RMT, RMTConfig
from .segment_association import SegmentAssociation


@dataclass(frozen=True, kw_only=True)
class ARMTConfig(RMTConfig):
    """Associative Recurrent Memory Transformer (Rodkin et al. 2024, arXiv:2407.04841).

    Each inner block of an RMT (see `RMTConfig`) has an associative memory A, empty at
    the start of a document. Before the block, every token h of a segment reads it:

        h <- h + A^T phi(W_q h)

    At the end of the segment, the outputs m of the block for the write tokens enter it
    by the delta rule, with phi the features DPFP-3 of arXiv:2102.11174:

        A <- A + beta k (v - A^T k)^T, k = phi(W_k m), v = W_v m, beta = sigmoid(w_b m)

    Differs from it in: phi has length 1, which replaces the published normaliser
    (zeta^T phi and its correction gamma: for a key stored once, both divide by 1); the
    tokens of a segment are written one after the other, not all at once; and all that
    `RMTConfig` lists.
    """

    small: ClassVar[Mapping[str, Any]] = {
        "layers": (AttentionConfig(num_heads=2),),
        "segment_size": 6,
        "memory_tokens": 2,
        "key_size": 4,
    }

    memory_tokens: int = 16
    """Number of memory tokens, and of writes per segment and block."""
    key_size: int = 64
    """Size of keys before phi, which makes 6 times as many features."""
    stop_gradient: bool = False
    """Stop gradients between segments through the memory tokens; those through the
    associative memories remain."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("memory_tokens", self.memory_tokens)
        check_positive("key_size", self.key_size)

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "ARMT":
        return ARMT(self, width, rngs, layer_index, depth)


class ARMT(RMT):
    """See `ARMTConfig`."""

    def __init__(
        self,
        config: ARMTConfig,
        width: int,
        rngs: nnx.Rngs,
        layer_index: int | Array,
        depth: int,
    ):
        super().__init__(config, width, rngs, layer_index, depth)
        self.associations = nnx.List(
            [SegmentAssociation(width, config.key_size, rngs) for _ in config.layers]
        )
