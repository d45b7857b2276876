"""Based: linear attention with the Taylor feature map."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from flax import nnx
from jaxtyping import Array

from .layer_checks import (
    check_choice,
    check_chunk_size,
    check_convolution,
    check_positive,
    resolve_head_size,
)
from .layer_config import Family, RegisteredConfig
from .normalised_features import NormalisedFeatures
from .read_out import ReadOut
from .regression import Regression
from .streams import query_key_value

TaylorMap = Literal["taylor", "taylor_full"]


@dataclass(frozen=True, kw_only=True)
class BasedConfig(RegisteredConfig):
    """Taylor linear attention of Based (Arora et al. 2024, arXiv:2402.18668).

    Per head, with phi(q) . phi(k) = 1 + s + s^2 / 2 and s = q . k / sqrt(feature_size):

        S_t = S_(t-1) + phi(k_t) v_t^T,  z_t = z_(t-1) + phi(k_t)
        y_t = S_t^T phi(q_t) / (z_t . phi(q_t) + 1e-12)

    1 + s + s^2 / 2 approximates exp(s), so the read approximates softmax attention with
    small queries and keys.

    Differs from it in: only this layer, without the sliding-window attention and the
    gated convolutions that Based stacks with it; each product of two numbers is one
    feature, not two, unless `feature_map` is taylor_full; optional short convolutions.
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
    feature_map: TaylorMap = "taylor"
    """taylor: 153 features from 16 numbers; taylor_full: 273, as published, with the
    same result."""
    convolution_size: int = 0
    """Taps of the short convolutions on queries, keys and values; 0: none."""
    chunk_size: int | None = None
    """Tokens per chunk; affects speed only. None: chosen for the backend."""

    def __post_init__(self) -> None:
        check_convolution(self.convolution_size)
        check_chunk_size(self.chunk_size)
        check_positive("feature_size", self.feature_size)
        check_choice("feature_map", self.feature_map, get_args(TaylorMap))

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "Based":
        del layer_index
        return Based(self, width, rngs, depth)


class Based(NormalisedFeatures):
    """See `BasedConfig`."""

    def __init__(self, config: BasedConfig, width: int, rngs: nnx.Rngs, depth: int):
        heads = config.num_heads
        self.config = config
        self.head_size = resolve_head_size(width, heads, config.head_size)
        keys, values = heads * config.feature_size, heads * self.head_size
        self.query, self.key, self.value = query_key_value(
            width,
            (keys, keys, values),
            (heads, heads, heads),
            config.convolution_size,
            rngs,
            activation=False,
        )
        self.read_out = ReadOut(values, width, rngs, depth=depth)
