"""Softmax attention over the last tokens only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array

from .attention import Attention, SoftmaxAttentionConfig
from .layer_checks import check_positive


@dataclass(frozen=True, kw_only=True)
class SlidingWindowAttentionConfig(SoftmaxAttentionConfig):
    """Causal softmax attention over a window (Beltagy et al. 2020, arXiv:2004.05150).

    As `AttentionConfig`, over the tokens t - window < s <= t of the document. The state
    is a ring of `window` keys and values.

    Differs from it in: no global and no dilated tokens.
    """

    small: ClassVar[Mapping[str, Any]] = {"window": 6}

    window: int = 64
    """Number of tokens that a token sees, itself included."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("window", self.window)

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> Attention:
        del layer_index
        return Attention(self, width, rngs, depth, window=self.window)
