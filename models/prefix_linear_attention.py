"""Prefix linear attention: the recurrent layer of "Just read twice"."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

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
from .ops.recurrence import Recurrence
from .ops.scalar_decay import SCALAR_DECAY, ScalarDecayTokens
from .ops.taylor_attention import TAYLOR_ATTENTION, TaylorTokens
from .read_out import ReadOut
from .regression import Regression
from .streams import Encoder, Tails, query_key_value

PrefixFeatureMap = Literal["taylor", "taylor_full", "elu_plus_one"]

_EPSILON = 1e-12


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


class PrefixLinearAttention(MatrixMemory):
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

    @property
    def rule(self) -> Recurrence:  # type: ignore[override]
        return TAYLOR_ATTENTION if self.config.feature_map == "taylor" else SCALAR_DECAY

    def init_memory(self, batch_size: int) -> Float[Array, "b h k v"]:
        config = self.config
        features = feature_maps.num_features(config.feature_map, config.feature_size)
        shape = (batch_size, config.num_heads, features, self.head_size + 1)
        return jnp.zeros(shape, jnp.float32)

    def inputs(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        (q, k, v), tails = self.streams(x, state.tails, layout)
        return MemoryInputs(self._tokens(self._mapped(q), k, v)), tails

    def prefix_inputs(
        self, x: Float[Array, "b t d"], inputs: MemoryInputs, layout: Layout
    ) -> MemoryInputs:
        k, v = self.encoder(x, layout)
        return MemoryInputs(self._tokens(inputs.query, k, v))

    def _tokens(
        self,
        query: Float[Array, "b t h f"],
        k: Float[Array, "b t h k"],
        v: Float[Array, "b t h v"],
    ) -> TaylorTokens | ScalarDecayTokens:
        return self.rule.tokens(query, self._mapped(k), _with_one(v))

    def read(
        self, query: Float[Array, "b t h k"], memory: Float[Array, "b h f v"]
    ) -> Float[Array, "b t h v"]:
        if self.rule is TAYLOR_ATTENTION:
            query = feature_maps.taylor(query)
        return super().read(query, memory)

    def output(
        self, read: Float[Array, "b t h v"], x: Float[Array, "b t d"]
    ) -> Float[Array, "b t d"]:
        total = read[..., -1:].astype(jnp.float32) + _EPSILON
        y = (read[..., :-1] / total).astype(read.dtype)
        return self.read_out(y, x)

    def _mapped(self, x: Float[Array, "b t h k"]) -> Float[Array, "b t h f"]:
        """Return features of queries or keys, unless the rule computes them itself."""
        config = self.config
        if config.feature_map.startswith("taylor"):
            # They approximate exp(q . k / sqrt(size)); q and k share the factor.
            x = x * config.feature_size**-0.25
        if self.rule is TAYLOR_ATTENTION:
            return x
        return feature_maps.FEATURE_MAPS[config.feature_map](x)


def _with_one(v: Float[Array, "b t h v"]) -> Float[Array, "b t h w"]:
    """Append a 1 to every value; its weighted sum is the normaliser."""
    return jnp.concatenate([v, jnp.ones_like(v[..., :1])], axis=-1)
