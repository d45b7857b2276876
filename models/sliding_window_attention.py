"""Softmax attention over the last tokens alone."""

from dataclasses import dataclass

from flax import nnx
from jaxtyping import Array

from .attention import Attention, Implementation, check_key_value_heads
from .layer_checks import check_convolution, check_positive


@dataclass(frozen=True, kw_only=True)
class SlidingWindowAttentionConfig:
    """Causal softmax attention over a window (Beltagy et al. 2020, arXiv:2004.05150).

    As `AttentionConfig`, over the tokens t - window < s <= t of the document. The state
    is a ring of `window` keys and values.

    Differs from it in: no global and no dilated tokens.
    """

    window: int = 64
    """Tokens that a token sees, itself included."""
    num_heads: int = 4
    head_size: int | None = None
    """Size of queries, keys and values a head; None: width / num_heads."""
    key_value_heads: int | None = None
    """Heads of keys and values, a divisor of num_heads; None: num_heads."""
    rotary_base: float | None = 10000.0
    """Base of the rotary positions; None: no positions."""
    normalise_query_key: bool = False
    """Root-mean-square norm with a learned scale on queries and keys."""
    convolution_size: int = 0
    """Taps of the short convolutions on queries, keys and values; 0: none."""
    implementation: Implementation = "auto"
    """Speed only; auto: cuDNN on a GPU where it applies, else blockwise."""

    def __post_init__(self) -> None:
        check_positive("window", self.window)
        check_convolution(self.convolution_size)
        check_key_value_heads(self.num_heads, self.key_value_heads)

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> Attention:
        del layer_index
        return Attention(self, width, rngs, depth, window=self.window)
