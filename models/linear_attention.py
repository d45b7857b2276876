"""Linear attention: an additive matrix memory read through a feature map."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from memzoo.errors import InputError

from .associative_memory import AssociativeState, MatrixMemory
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
from .ops import feature_maps
from .ops.scalar_decay import SCALAR_DECAY, ScalarDecayTokens
from .projection import RMSNorm
from .read_out import ReadOut
from .regression import Regression
from .streams import Tails, query_key_value

FeatureMap = Literal["identity", "elu_plus_one", "relu", "taylor"]


@dataclass(frozen=True, kw_only=True)
class LinearAttentionConfig(RegisteredConfig):
    """Linear attention (Katharopoulos et al. 2020, arXiv:2006.16236).

    Per head, with feature map phi:

        S_t = S_(t-1) + phi(k_t) v_t^T,  z_t = z_(t-1) + phi(k_t)
        o_t = S_t^T phi(q_t) / (z_t . phi(q_t))

    Differs from it in: short convolutions before the feature map; without the
    normaliser, a root-mean-square norm per head as in flash-linear-attention.
    """

    family: ClassVar[Family] = "scalar decay"
    regression: ClassVar[Regression | None] = Regression(
        "uniform", "features", "one_step"
    )

    num_heads: int = 4
    head_size: int | None = None
    """Size of each head's queries, keys and values; None: width / num_heads."""
    feature_map: FeatureMap = "elu_plus_one"
    normaliser: bool = True
    """Divide by z . phi(q); needs a non-negative feature map."""
    convolution_size: int = 4
    """Taps of the short convolutions on queries, keys and values; 0: none."""
    norm_epsilon: float = 1e-5
    """Epsilon of the read's norm: added to the mean square."""
    chunk_size: int | None = None
    """Tokens per chunk; affects speed only. None: chosen for the backend."""

    def __post_init__(self) -> None:
        check_convolution(self.convolution_size)
        check_chunk_size(self.chunk_size)
        check_positive("norm_epsilon", self.norm_epsilon)
        check_choice("feature_map", self.feature_map, get_args(FeatureMap))
        if self.normaliser and self.feature_map == "identity":
            raise InputError(
                "feature_map is 'identity', whose normaliser can be 0; "
                "set normaliser to False or choose elu_plus_one, relu or taylor"
            )

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "LinearAttention":
        del layer_index
        return LinearAttention(self, width, rngs, depth)


class LinearAttention(MatrixMemory):
    """See `LinearAttentionConfig`."""

    rule = SCALAR_DECAY

    def __init__(
        self, config: LinearAttentionConfig, width: int, rngs: nnx.Rngs, depth: int
    ):
        size = resolve_head_size(width, config.num_heads, config.head_size)
        self.config = config
        self.head_size = size
        inner = config.num_heads * size
        self.query, self.key, self.value = query_key_value(
            width,
            (inner, inner, inner),
            (config.num_heads, config.num_heads, config.num_heads),
            config.convolution_size,
            rngs,
            activation=False,
        )
        norm = None if config.normaliser else RMSNorm(size, config.norm_epsilon)
        self.read_out = ReadOut(inner, width, rngs, depth=depth, norm=norm)

    @property
    def num_features(self) -> int:
        """Number of features of a key after the feature map."""
        return feature_maps.num_features(self.config.feature_map, self.head_size)

    def init_memory(self, batch_size: int) -> Float[Array, "b h k v"]:
        values = self.head_size + int(self.config.normaliser)
        shape = (batch_size, self.config.num_heads, self.num_features, values)
        return jnp.zeros(shape, jnp.float32)

    def inputs(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        (q, k, v), tails = self.streams(x, state.tails, layout)
        feature_map = feature_maps.FEATURE_MAPS[self.config.feature_map]
        # taylor approximates exp(q . k / sqrt(size)); the other maps do not scale.
        scale = self.head_size**-0.5
        if self.config.feature_map == "taylor":
            q, k = feature_map(q * scale**0.5), feature_map(k * scale**0.5)
        else:
            q, k = feature_map(q) * scale, feature_map(k)
        if self.config.normaliser:
            v = jnp.concatenate([v, jnp.ones_like(v[..., :1])], axis=-1)
        return MemoryInputs(ScalarDecayTokens(q, k, v)), tails

    def output(
        self, read: Float[Array, "b t h v"], x: Float[Array, "b t d"]
    ) -> Float[Array, "b t d"]:
        if self.config.normaliser:
            # Features are positive: the sum is 0 only if nothing was written.
            weight = jnp.maximum(read[..., -1:].astype(jnp.float32), 1e-6)
            read = (read[..., :-1] / weight).astype(x.dtype)
        return self.read_out(read, x)
