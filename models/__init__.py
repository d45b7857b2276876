"""Registry of the zoo's layers by name."""

from .armt import ARMTConfig
from .atlas import AtlasConfig
from .attention import AttentionConfig
from .based import BasedConfig
from .bmojo import BMojoConfig
from .comba import CombaConfig
from .continuum_memory import ContinuumMemoryConfig
from .delta_net import DeltaNetConfig
from .gated_delta_net import GatedDeltaNetConfig
from .gated_delta_product import GatedDeltaProductConfig
from .gated_short_convolution import GatedShortConvolutionConfig
from .gdn2 import GDN2Config
from .gla import GLAConfig
from .hcam import HCAMConfig
from .hgrn2 import HGRN2Config
from .hmm_two_rate import HMMTwoRateConfig
from .hola import HOLAConfig
from .infini_attention import InfiniAttentionConfig
from .intention import IntentionConfig
from .kda import KDAConfig
from .lact import LaCTConfig
from .layer_config import LayerConfig as LayerConfig
from .layer_config import RegisteredConfig
from .linear_attention import LinearAttentionConfig
from .local_linear_attention import LocalLinearAttentionConfig
from .log_linear_attention import LogLinearAttentionConfig
from .longhorn import LonghornConfig
from .mamba2 import Mamba2Config
from .mamba3 import Mamba3Config
from .memo import MemoConfig
from .memora import MemoraConfig
from .memorizing_attention import MemorizingAttentionConfig
from .memory_caching import MemoryCachingConfig
from .mesa_net import MesaNetConfig
from .mixture_of_memories import MixtureOfMemoriesConfig
from .momentum_delta_net import MomentumDeltaNetConfig
from .moneta import MonetaConfig
from .oja import OjaConfig
from .omega_net import OmegaNetConfig
from .pgdn import PGDNConfig
from .pkda import PKDAConfig
from .prefix_attention import PrefixAttentionConfig
from .prefix_linear_attention import PrefixLinearAttentionConfig
from .retnet import RetNetConfig
from .rmt import RMTConfig
from .rwkv7 import RWKV7Config
from .sliding_window_attention import SlidingWindowAttentionConfig
from .test_time_regression import TestTimeRegressionConfig
from .titans_lmm import TitansLMMConfig
from .titans_mac import TitansMACConfig
from .titans_mag import TitansMAGConfig
from .titans_mal import TitansMALConfig
from .ttt_linear import TTTLinearConfig
from .ttt_mlp import TTTMLPConfig
from .yaad import YaadConfig

LAYERS: dict[str, type[RegisteredConfig]] = {
    "attention": AttentionConfig,
    "sliding_window_attention": SlidingWindowAttentionConfig,
    "linear_attention": LinearAttentionConfig,
    "based": BasedConfig,
    "retnet": RetNetConfig,
    "mamba2": Mamba2Config,
    "mamba3": Mamba3Config,
    "gla": GLAConfig,
    "hgrn2": HGRN2Config,
    "delta_net": DeltaNetConfig,
    "gated_delta_net": GatedDeltaNetConfig,
    "kda": KDAConfig,
    "gdn2": GDN2Config,
    "comba": CombaConfig,
    "gated_delta_product": GatedDeltaProductConfig,
    "longhorn": LonghornConfig,
    "momentum_delta_net": MomentumDeltaNetConfig,
    "pgdn": PGDNConfig,
    "pkda": PKDAConfig,
    "oja": OjaConfig,
    "mesa_net": MesaNetConfig,
    "intention": IntentionConfig,
    "local_linear_attention": LocalLinearAttentionConfig,
    "rwkv7": RWKV7Config,
    "gated_short_convolution": GatedShortConvolutionConfig,
    "prefix_linear_attention": PrefixLinearAttentionConfig,
    "prefix_attention": PrefixAttentionConfig,
    "mixture_of_memories": MixtureOfMemoriesConfig,
    "log_linear_attention": LogLinearAttentionConfig,
    "memory_caching": MemoryCachingConfig,
    "rmt": RMTConfig,
    "armt": ARMTConfig,
    "memo": MemoConfig,
    "test_time_regression": TestTimeRegressionConfig,
    "titans_lmm": TitansLMMConfig,
    "titans_mag": TitansMAGConfig,
    "titans_mal": TitansMALConfig,
    "titans_mac": TitansMACConfig,
    "continuum_memory": ContinuumMemoryConfig,
    "hmm_two_rate": HMMTwoRateConfig,
    "infini_attention": InfiniAttentionConfig,
    "hcam": HCAMConfig,
    "memorizing_attention": MemorizingAttentionConfig,
    "hola": HOLAConfig,
    "bmojo": BMojoConfig,
    "ttt_linear": TTTLinearConfig,
    "ttt_mlp": TTTMLPConfig,
    "omega_net": OmegaNetConfig,
    "atlas": AtlasConfig,
    "yaad": YaadConfig,
    "moneta": MonetaConfig,
    "memora": MemoraConfig,
    "lact": LaCTConfig,
}
