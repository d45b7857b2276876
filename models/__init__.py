"""The registry: every layer of the zoo by its name."""

from .attention import AttentionConfig
from .delta_net import DeltaNetConfig
from .gated_delta_net import GatedDeltaNetConfig
from .linear_attention import LinearAttentionConfig
from .mamba2 import Mamba2Config
from .retnet import RetNetConfig
from .sliding_window_attention import SlidingWindowAttentionConfig

LayerConfig = (
    AttentionConfig
    | SlidingWindowAttentionConfig
    | LinearAttentionConfig
    | RetNetConfig
    | Mamba2Config
    | DeltaNetConfig
    | GatedDeltaNetConfig
)

LAYERS: dict[str, type[LayerConfig]] = {
    "attention": AttentionConfig,
    "sliding_window_attention": SlidingWindowAttentionConfig,
    "linear_attention": LinearAttentionConfig,
    "retnet": RetNetConfig,
    "mamba2": Mamba2Config,
    "delta_net": DeltaNetConfig,
    "gated_delta_net": GatedDeltaNetConfig,
}
