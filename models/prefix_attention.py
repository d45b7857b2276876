"""Softmax attention that reads the beginning of a document non-causally."""

from dataclasses import dataclass

from flax import nnx
from jaxtyping import Array

from .attention import Attention, SoftmaxAttentionConfig


@dataclass(frozen=True, kw_only=True)
class PrefixAttentionConfig(SoftmaxAttentionConfig):
    """Softmax attention, non-causal inside a prefix (Raffel et al. 2019,
    arXiv:1910.10683, section 3.2.1, called prefix LM).

    As `AttentionConfig`; in a document whose first M tokens are its prefix, token t
    reads the tokens

        s <= t, or s <= M if t <= M

    Without a prefix it is `attention`.

    Differs from it in: rotary positions in place of relative biases.
    """

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> Attention:
        del layer_index
        return Attention(self, width, rngs, depth, window=None, accepts_prefix=True)
