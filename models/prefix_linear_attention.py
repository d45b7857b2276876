"""Prefix linear attention: the recurrent layer of "Just read twice"."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from flax import nnx
from jaxtyping import Array, Float

from .interface import Layout
from .layer_checks import (
    check_choice,
    check_chunk_size,
    check_convolution,
    check_positive,
    resolve_head_size,
)
from .layer_config import Family, RegisteredConfig
from .memory_inputs import MemoryInputs
from .normalised_features import NormalisedFeatures
from .read_out import ReadOut
from .regression import Regression
from .streams import Encoder, query_key_value

PrefixFeatureMap = Literal["taylor", "taylor_full", "elu_plus_one"]


@dataclass(frozen=True, kw_only=True)
class PrefixLinearAttentionConfig(RegisteredConfig):
    """Prefix linear attention, JRT-RNN (Arora et al. 2024, arXiv:2407.05483).

    Per head, with feature map phi, over a document whose first M tokens are its prefix,
    and with keys ke and values ve from separate maps:

        n_i = phi(q_i) (sum_(j <= i) phi(k_j) v_j^T + sum_(j <= M) phi(ke_j) ve_j^T)
        z_i = phi(q_i) (sum_(j <= i) phi(k_j) + sum_(j <= M) phi(ke_j))
        y_i = n_i / (z_i + 1e-12)

    The second sums are the document's initial memory. Without a prefix they are 0 and
    the layer is causal linear attention.

    Differs from it in: padding is masked after the feature map (the public code masks
    before it, so padding adds the constant feature to the normaliser); each product of
    two numbers is one feature, not two, unless `feature_map` is taylor_full;
    convolutions and the choice of feature map are options.
    """

    family: ClassVar[Family] = "scalar decay"
    regression: ClassVar[Regression | None] = Regression(
        "uniform", "polynomial", "one_step"
    )

    num_heads: int = 4
    feature_size: int = 16
    """Size of each head's queries and keys, before the feature map."""
    head_size: int | None = None
    """Size of each head's values; None: width / num_heads."""
    feature_map: PrefixFeatureMap = "taylor"
    """taylor: 1 + s + s^2 / 2 for s = q . k / sqrt(feature_size), 153 features from 16
    numbers; taylor_full: the same kernel from 273 features, as published."""
    convolution_size: int = 0
    """Taps of the short convolutions on queries, keys and values; 0: none."""
    chunk_size: int | None = None
    """Tokens per chunk; affects speed only. None: chosen for the backend."""

    def __post_init__(self) -> None:
        check_convolution(self.convolution_size)
        check_chunk_size(self.chunk_size)
        check_positive("feature_size", self.feature_size)
        check_choice("feature_map", self.feature_map, get_args(PrefixFeatureMap))

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "PrefixLinearAttention":
        del layer_index
        return PrefixLinearAttention(self, width, rngs, depth)


class PrefixLinearAttention(NormalisedFeatures):
    """See `PrefixLinearAttentionConfig`."""

    accepts_prefix = True

    def __init__(
        self,
        config: PrefixLinearAttentionConfig,
        width: int,
        rngs: nnx.Rngs,
        depth: int,
    ):
        size = resolve_head_size(width, config.num_heads, config.head_size)
        heads = config.num_heads
        self.config = config
        self.head_size = size
        keys, values = heads * config.feature_size, heads * size
        self.query, self.key, self.value = query_key_value(
            width,
            (keys, keys, values),
            (heads, heads, heads),
            config.convolution_size,
            rngs,
            activation=False,
        )
        self.encoder = Encoder(
            width,
            (keys, values),
            (heads, heads),
            config.convolution_size,
            rngs,
            activation=False,
        )
        self.read_out = ReadOut(values, width, rngs, depth=depth)

    def prefix_inputs(
        self, x: Float[Array, "b t d"], inputs: MemoryInputs, layout: Layout
    ) -> MemoryInputs:
        k, v = self.encoder(x, layout)
        return MemoryInputs(self.make_tokens(inputs.query, k, v))
