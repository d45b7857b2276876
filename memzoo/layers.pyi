"""Written by `make stubs` from the configs of the layers."""

from typing import Any, Literal

from flax import nnx

from .models.armt import ARMTConfig as ARMTConfig
from .models.atlas import AtlasConfig as AtlasConfig
from .models.attention import AttentionConfig as AttentionConfig
from .models.based import BasedConfig as BasedConfig
from .models.bmojo import BMojoConfig as BMojoConfig
from .models.comba import CombaConfig as CombaConfig
from .models.continuum_memory import ContinuumMemoryConfig as ContinuumMemoryConfig
from .models.delta_net import DeltaNetConfig as DeltaNetConfig
from .models.gated_delta_net import GatedDeltaNetConfig as GatedDeltaNetConfig
from .models.gated_delta_product import (
    GatedDeltaProductConfig as GatedDeltaProductConfig,
)
from .models.gated_short_convolution import (
    GatedShortConvolutionConfig as GatedShortConvolutionConfig,
)
from .models.gdn2 import GDN2Config as GDN2Config
from .models.gla import GLAConfig as GLAConfig
from .models.hcam import HCAMConfig as HCAMConfig
from .models.hgrn2 import HGRN2Config as HGRN2Config
from .models.hmm_two_rate import HMMTwoRateConfig as HMMTwoRateConfig
from .models.hola import HOLAConfig as HOLAConfig
from .models.infini_attention import InfiniAttentionConfig as InfiniAttentionConfig
from .models.intention import IntentionConfig as IntentionConfig
from .models.interface import MemoryLayer
from .models.kda import KDAConfig as KDAConfig
from .models.lact import LaCTConfig as LaCTConfig
from .models.layer_config import LayerConfig as LayerConfig
from .models.linear_attention import LinearAttentionConfig as LinearAttentionConfig
from .models.local_linear_attention import (
    LocalLinearAttentionConfig as LocalLinearAttentionConfig,
)
from .models.log_linear_attention import (
    LogLinearAttentionConfig as LogLinearAttentionConfig,
)
from .models.longhorn import LonghornConfig as LonghornConfig
from .models.mamba2 import Mamba2Config as Mamba2Config
from .models.mamba3 import Mamba3Config as Mamba3Config
from .models.memo import MemoConfig as MemoConfig
from .models.memora import MemoraConfig as MemoraConfig
from .models.memorizing_attention import (
    MemorizingAttentionConfig as MemorizingAttentionConfig,
)
from .models.memory_caching import MemoryCachingConfig as MemoryCachingConfig
from .models.mesa_net import MesaNetConfig as MesaNetConfig
from .models.mixture_of_memories import (
    MixtureOfMemoriesConfig as MixtureOfMemoriesConfig,
)
from .models.momentum_delta_net import MomentumDeltaNetConfig as MomentumDeltaNetConfig
from .models.moneta import MonetaConfig as MonetaConfig
from .models.oja import OjaConfig as OjaConfig
from .models.omega_net import OmegaNetConfig as OmegaNetConfig
from .models.pgdn import PGDNConfig as PGDNConfig
from .models.pkda import PKDAConfig as PKDAConfig
from .models.prefix_attention import PrefixAttentionConfig as PrefixAttentionConfig
from .models.prefix_linear_attention import (
    PrefixLinearAttentionConfig as PrefixLinearAttentionConfig,
)
from .models.retnet import RetNetConfig as RetNetConfig
from .models.rmt import RMTConfig as RMTConfig
from .models.rwkv7 import RWKV7Config as RWKV7Config
from .models.sliding_window_attention import (
    SlidingWindowAttentionConfig as SlidingWindowAttentionConfig,
)
from .models.test_time_regression import (
    TestTimeRegressionConfig as TestTimeRegressionConfig,
)
from .models.titans_lmm import TitansLMMConfig as TitansLMMConfig
from .models.titans_mac import TitansMACConfig as TitansMACConfig
from .models.titans_mag import TitansMAGConfig as TitansMAGConfig
from .models.titans_mal import TitansMALConfig as TitansMALConfig
from .models.ttt_linear import TTTLinearConfig as TTTLinearConfig
from .models.ttt_mlp import TTTMLPConfig as TTTMLPConfig
from .models.yaad import YaadConfig as YaadConfig

class _Layer(MemoryLayer[Any]):
    def init_state(self, batch_size: int, max_length: int) -> Any: ...
    def sequence(self, x: Any, state: Any, layout: Any) -> Any: ...
    def token(self, x: Any, state: Any) -> Any: ...

class Attention(_Layer):
    Config = AttentionConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        key_value_heads: int | None = None,
        rotary_base: float | None = 10000.0,
        rotary_fraction: float = 1.0,
        rotary_factor: float = 1.0,
        rotary_original_length: int | None = None,
        normalise_query_key: bool = False,
        zero_centred_norm: bool = False,
        norm_epsilon: float = 1e-05,
        bias: bool = False,
        output_bias: bool = False,
        output_gate: bool = False,
        convolution_size: int = 0,
        persistent_tokens: int = 0,
        implementation: Literal["auto", "blockwise", "reference", "cudnn"] = "auto",
        layer_index: int = 0,
        depth: int = 1,
    ) -> Attention: ...

class SlidingWindowAttention(_Layer):
    Config = SlidingWindowAttentionConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        key_value_heads: int | None = None,
        rotary_base: float | None = 10000.0,
        rotary_fraction: float = 1.0,
        rotary_factor: float = 1.0,
        rotary_original_length: int | None = None,
        normalise_query_key: bool = False,
        zero_centred_norm: bool = False,
        norm_epsilon: float = 1e-05,
        bias: bool = False,
        output_bias: bool = False,
        output_gate: bool = False,
        convolution_size: int = 0,
        persistent_tokens: int = 0,
        implementation: Literal["auto", "blockwise", "reference", "cudnn"] = "auto",
        window: int = 64,
        layer_index: int = 0,
        depth: int = 1,
    ) -> SlidingWindowAttention: ...

class LinearAttention(_Layer):
    Config = LinearAttentionConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        feature_map: Literal[
            "identity", "elu_plus_one", "relu", "taylor"
        ] = "elu_plus_one",
        normaliser: bool = True,
        convolution_size: int = 4,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> LinearAttention: ...

class Based(_Layer):
    Config = BasedConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        feature_size: int = 16,
        head_size: int | None = None,
        feature_map: Literal["taylor", "taylor_full"] = "taylor",
        convolution_size: int = 0,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> Based: ...

class RetNet(_Layer):
    Config = RetNetConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        value_ratio: int = 2,
        convolution_size: int = 0,
        output_gate: bool = True,
        rotary_base: float = 10000.0,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> RetNet: ...

class Mamba2(_Layer):
    Config = Mamba2Config
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        expand: int = 2,
        head_size: int = 64,
        state_size: int = 128,
        num_groups: int = 1,
        convolution_size: int = 4,
        output_gate: bool = True,
        fastest_decay: float = 16.0,
        bias: bool = False,
        convolution_bias: bool = True,
        shortest_time: float = 0.0,
        longest_time: float | None = None,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> Mamba2: ...

class Mamba3(_Layer):
    Config = Mamba3Config
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        expand: int = 2,
        head_size: int = 64,
        state_size: int = 128,
        num_groups: int = 1,
        rank: int = 1,
        rotary_fraction: float = 0.5,
        output_gate: bool = True,
        initial_time: tuple[float, float] = ...,
        least_rate: float = 0.0001,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> Mamba3: ...

class GLA(_Layer):
    Config = GLAConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        value_ratio: int = 2,
        convolution_size: int = 0,
        output_gate: bool = True,
        decay_rank: int = 16,
        temperature: float = 16.0,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> GLA: ...

class HGRN2(_Layer):
    Config = HGRN2Config
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        convolution_size: int = 0,
        lower_bound: bool = True,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> HGRN2: ...

class DeltaNet(_Layer):
    Config = DeltaNetConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        convolution_size: int = 4,
        negative_eigenvalues: bool = False,
        step_size: Literal["gate", "implicit", "kaczmarz", "error_free"] = "gate",
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> DeltaNet: ...

class GatedDeltaNet(_Layer):
    Config = GatedDeltaNetConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        value_heads: int | None = None,
        value_ratio: int = 2,
        convolution_size: int = 4,
        output_gate: bool = True,
        fastest_decay: float = 16.0,
        negative_eigenvalues: bool = False,
        step_size: Literal["gate", "implicit", "kaczmarz", "error_free"] = "gate",
        prefix: bool = False,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> GatedDeltaNet: ...

class KDA(_Layer):
    Config = KDAConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        value_ratio: int = 1,
        convolution_size: int = 4,
        output_gate: bool = True,
        gate_rank: int | None = None,
        fastest_decay: float = 16.0,
        negative_eigenvalues: bool = False,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> KDA: ...

class GDN2(_Layer):
    Config = GDN2Config
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        value_ratio: int = 1,
        convolution_size: int = 4,
        output_gate: bool = True,
        gate_rank: int | None = None,
        fastest_decay: float = 16.0,
        negative_eigenvalues: bool = False,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> GDN2: ...

class Comba(_Layer):
    Config = CombaConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        value_ratio: int = 2,
        convolution_size: int = 4,
        output_gate: bool = True,
        correction: float = 1.0,
        fastest_decay: float = 16.0,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> Comba: ...

class GatedDeltaProduct(_Layer):
    Config = GatedDeltaProductConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        value_ratio: int = 2,
        num_householder: int = 2,
        convolution_size: int = 4,
        forget_gate: bool = True,
        output_gate: bool = True,
        fastest_decay: float = 16.0,
        negative_eigenvalues: bool = True,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> GatedDeltaProduct: ...

class Longhorn(_Layer):
    Config = LonghornConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        convolution_size: int = 4,
        negative_eigenvalues: bool = False,
        step_size: Literal["gate", "implicit", "kaczmarz", "error_free"] = "implicit",
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> Longhorn: ...

class MomentumDeltaNet(_Layer):
    Config = MomentumDeltaNetConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        value_ratio: int = 2,
        convolution_size: int = 4,
        decayed_residual: bool = True,
        output_gate: bool = True,
        fastest_decay: float = 16.0,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> MomentumDeltaNet: ...

class PGDN(_Layer):
    Config = PGDNConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        value_heads: int | None = None,
        value_ratio: int = 2,
        convolution_size: int = 4,
        output_gate: bool = True,
        fastest_decay: float = 16.0,
        negative_eigenvalues: bool = False,
        step_size: Literal["gate", "implicit", "kaczmarz", "error_free"] = "gate",
        prefix: bool = False,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> PGDN: ...

class PKDA(_Layer):
    Config = PKDAConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        value_ratio: int = 1,
        convolution_size: int = 4,
        output_gate: bool = True,
        gate_rank: int | None = None,
        fastest_decay: float = 16.0,
        negative_eigenvalues: bool = False,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> PKDA: ...

class Oja(_Layer):
    Config = OjaConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        value_ratio: int = 1,
        convolution_size: int = 4,
        output_gate: bool = True,
        gate_rank: int | None = None,
        fastest_decay: float = 16.0,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> Oja: ...

class MesaNet(_Layer):
    Config = MesaNetConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        convolution_size: int = 4,
        output_gate: bool = False,
        decay_bias: float = 3.0,
        ridge: Literal["learned", "frobenius"] = "learned",
        ridge_floor: float = 0.25,
        initial_ridge: float = 1.0,
        frobenius_ratio: float = 0.02,
        mixing_gate: bool = False,
        solver: Literal["conjugate_gradients", "exact"] = "conjugate_gradients",
        solver_steps: int = 30,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> MesaNet: ...

class Intention(_Layer):
    Config = IntentionConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        kernel: Literal["linear", "exponential"] = "exponential",
        bandwidth: float = 0.5,
        ridge_floor: float = 0.05,
        initial_ridge: float = 1.0,
        convolution_size: int = 4,
        layer_index: int = 0,
        depth: int = 1,
    ) -> Intention: ...

class LocalLinearAttention(_Layer):
    Config = LocalLinearAttentionConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        key_value_heads: int | None = None,
        rotary_base: float | None = 10000.0,
        rotary_fraction: float = 1.0,
        rotary_factor: float = 1.0,
        rotary_original_length: int | None = None,
        normalise_query_key: bool = True,
        zero_centred_norm: bool = False,
        norm_epsilon: float = 1e-05,
        bias: bool = False,
        output_bias: bool = False,
        output_gate: bool = False,
        convolution_size: int = 0,
        persistent_tokens: int = 0,
        implementation: Literal["auto", "blockwise", "reference", "cudnn"] = "auto",
        solver: Literal["exact", "amortised"] = "exact",
        ridge_floor: float = 0.05,
        initial_ridge: float = 1.0,
        layer_index: int = 0,
        depth: int = 1,
    ) -> LocalLinearAttention: ...

class RWKV7(_Layer):
    Config = RWKV7Config
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        output_gate: bool = True,
        decay_rank: int | None = None,
        rate_rank: int | None = None,
        gate_rank: int | None = None,
        negative_eigenvalues: bool = False,
        norm_epsilon: float = 0.00064,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> RWKV7: ...

class GatedShortConvolution(_Layer):
    Config = GatedShortConvolutionConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        convolution_size: int = 3,
        expansion: int = 2,
        layer_index: int = 0,
        depth: int = 1,
    ) -> GatedShortConvolution: ...

class PrefixLinearAttention(_Layer):
    Config = PrefixLinearAttentionConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        feature_size: int = 16,
        head_size: int | None = None,
        feature_map: Literal["taylor", "taylor_full", "elu_plus_one"] = "taylor",
        convolution_size: int = 0,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> PrefixLinearAttention: ...

class PrefixAttention(_Layer):
    Config = PrefixAttentionConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        key_value_heads: int | None = None,
        rotary_base: float | None = 10000.0,
        rotary_fraction: float = 1.0,
        rotary_factor: float = 1.0,
        rotary_original_length: int | None = None,
        normalise_query_key: bool = False,
        zero_centred_norm: bool = False,
        norm_epsilon: float = 1e-05,
        bias: bool = False,
        output_bias: bool = False,
        output_gate: bool = False,
        convolution_size: int = 0,
        persistent_tokens: int = 0,
        implementation: Literal["auto", "blockwise", "reference", "cudnn"] = "auto",
        layer_index: int = 0,
        depth: int = 1,
    ) -> PrefixAttention: ...

class MixtureOfMemories(_Layer):
    Config = MixtureOfMemoriesConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        memory: LayerConfig = ...,
        num_memories: int = 4,
        top_k: int = 2,
        shared_memory: bool = True,
        single_kv_proj: bool = False,
        balance_scale: float = 0.001,
        z_scale: float = 0.0,
        router_noise: float = 0.0,
        form: Literal["auto", "packed", "padded", "dense"] = "auto",
        layer_index: int = 0,
        depth: int = 1,
    ) -> MixtureOfMemories: ...

class LogLinearAttention(_Layer):
    Config = LogLinearAttentionConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        memory: LayerConfig = ...,
        num_levels: int = 17,
        layer_index: int = 0,
        depth: int = 1,
    ) -> LogLinearAttention: ...

class MemoryCaching(_Layer):
    Config = MemoryCachingConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        memory: LayerConfig = ...,
        segment_size: int = 256,
        cache_size: int | None = None,
        gate: Literal["softmax", "sparse", "residual"] = "softmax",
        top_k: int = 4,
        start: Literal["continue", "initial"] = "continue",
        layer_index: int = 0,
        depth: int = 1,
    ) -> MemoryCaching: ...

class RMT(_Layer):
    Config = RMTConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        layers: tuple[LayerConfig, ...] = ...,
        mlp_width: int = 0,
        segment_size: int = 64,
        norm_epsilon: float = 1e-05,
        memory_tokens: int = 16,
        stop_gradient: bool = False,
        layer_index: int = 0,
        depth: int = 1,
    ) -> RMT: ...

class ARMT(_Layer):
    Config = ARMTConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        layers: tuple[LayerConfig, ...] = ...,
        mlp_width: int = 0,
        segment_size: int = 64,
        norm_epsilon: float = 1e-05,
        memory_tokens: int = 16,
        stop_gradient: bool = False,
        key_size: int = 64,
        layer_index: int = 0,
        depth: int = 1,
    ) -> ARMT: ...

class Memo(_Layer):
    Config = MemoConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        layers: tuple[LayerConfig, ...] = ...,
        mlp_width: int = 0,
        segment_size: int = 64,
        norm_epsilon: float = 1e-05,
        summary_tokens: int = 8,
        kept_segments: int = 16,
        stop_gradient: bool = False,
        layer_index: int = 0,
        depth: int = 1,
    ) -> Memo: ...

class TestTimeRegression(_Layer):
    Config = TestTimeRegressionConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        weights: Literal[
            "uniform", "scalar_decay", "channel_decay", "kernel"
        ] = "scalar_decay",
        regressor: Literal["constant", "linear", "polynomial", "mlp"] = "linear",
        solver: Literal[
            "one_step",
            "online",
            "several_steps",
            "implicit",
            "exact",
            "conjugate_gradients",
        ] = "online",
        degree: int = 2,
        steps: int = 2,
        ridge: float = 0.1,
        num_heads: int = 4,
        head_size: int | None = None,
        convolution_size: int = 4,
        output_gate: bool = True,
        fastest_decay: float = 1.0,
        update_every: int = 16,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> TestTimeRegression: ...

class TitansLMM(_Layer):
    Config = TitansLMMConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        memory_depth: int = 2,
        memory_expansion: int = 4,
        activation: Literal["gelu", "silu"] = "gelu",
        update_every: int = 16,
        forget: bool = True,
        max_learning_rate: float = 0.1,
        clip: float | None = 1.0,
        persistent_tokens: int = 4,
        convolution_size: int = 4,
        output_gate: bool = True,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        network: Literal["mlp", "swiglu"] = "mlp",
        memory_residual: bool = False,
        memory_norm: bool = False,
        momentum: bool = True,
        read: Literal["after", "before", "window"] = "after",
        loss: Literal["full", "half"] = "full",
        loss_window: int = 1,
        scale_by_place: bool = False,
        keep_row_norms: bool = False,
        prefix: bool = False,
        layer_index: int = 0,
        depth: int = 1,
    ) -> TitansLMM: ...

class TitansMAG(_Layer):
    Config = TitansMAGConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        memory: TitansLMMConfig = ...,
        attention: SlidingWindowAttentionConfig = ...,
        norm_epsilon: float = 1e-05,
        layer_index: int = 0,
        depth: int = 1,
    ) -> TitansMAG: ...

class TitansMAL(_Layer):
    Config = TitansMALConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        memory: TitansLMMConfig = ...,
        attention: SlidingWindowAttentionConfig = ...,
        residual: bool = True,
        norm_epsilon: float = 1e-05,
        layer_index: int = 0,
        depth: int = 1,
    ) -> TitansMAL: ...

class TitansMAC(_Layer):
    Config = TitansMACConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        memory: TitansLMMConfig = ...,
        segment_size: int = 64,
        memory_tokens: int | None = None,
        num_heads: int = 4,
        head_size: int | None = None,
        rotary_base: float | None = 10000.0,
        persistent_tokens: int = 4,
        residual: bool = True,
        add_memory: bool = True,
        norm_epsilon: float = 1e-05,
        layer_index: int = 0,
        depth: int = 1,
    ) -> TitansMAC: ...

class ContinuumMemory(_Layer):
    Config = ContinuumMemoryConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        memory_depth: int = 2,
        memory_expansion: int = 4,
        activation: Literal["gelu", "silu"] = "gelu",
        update_every: int = 16,
        forget: bool = False,
        max_learning_rate: float = 0.1,
        clip: float | None = 1.0,
        persistent_tokens: int = 0,
        convolution_size: int = 4,
        output_gate: bool = True,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        network: Literal["mlp", "swiglu"] = "mlp",
        memory_residual: bool = True,
        memory_norm: bool = False,
        momentum: bool = False,
        read: Literal["after", "before", "window"] = "window",
        loss: Literal["full", "half"] = "full",
        loss_window: int = 1,
        scale_by_place: bool = False,
        keep_row_norms: bool = False,
        prefix: bool = False,
        levels: int = 3,
        level_ratio: int = 4,
        layer_index: int = 0,
        depth: int = 1,
    ) -> ContinuumMemory: ...

class HMMTwoRate(_Layer):
    Config = HMMTwoRateConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        memory_depth: int = 2,
        memory_expansion: int = 4,
        activation: Literal["gelu", "silu"] = "gelu",
        update_every: int = 16,
        forget: bool = True,
        max_learning_rate: float = 0.1,
        clip: float | None = 1.0,
        persistent_tokens: int = 4,
        convolution_size: int = 4,
        output_gate: bool = True,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        network: Literal["mlp", "swiglu"] = "mlp",
        memory_residual: bool = False,
        memory_norm: bool = False,
        momentum: bool = True,
        read: Literal["after", "before", "window"] = "after",
        loss: Literal["full", "half"] = "full",
        loss_window: int = 1,
        scale_by_place: bool = False,
        keep_row_norms: bool = False,
        prefix: bool = False,
        slow_every: int = 4,
        rounds: int = 2,
        layer_index: int = 0,
        depth: int = 1,
    ) -> HMMTwoRate: ...

class InfiniAttention(_Layer):
    Config = InfiniAttentionConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        key_value_heads: int | None = None,
        rotary_base: float | None = 10000.0,
        rotary_fraction: float = 1.0,
        rotary_factor: float = 1.0,
        rotary_original_length: int | None = None,
        normalise_query_key: bool = False,
        zero_centred_norm: bool = False,
        norm_epsilon: float = 1e-05,
        bias: bool = False,
        output_bias: bool = False,
        output_gate: bool = False,
        convolution_size: int = 0,
        persistent_tokens: int = 0,
        implementation: Literal["auto", "blockwise", "reference", "cudnn"] = "auto",
        segment_size: int = 64,
        write: Literal["sum", "delta", "exact_delta"] = "delta",
        layer_index: int = 0,
        depth: int = 1,
    ) -> InfiniAttention: ...

class HCAM(_Layer):
    Config = HCAMConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        segment_size: int = 32,
        num_segments: int = 64,
        top_k: int = 4,
        stop_gradient: bool = False,
        convolution_size: int = 0,
        layer_index: int = 0,
        depth: int = 1,
    ) -> HCAM: ...

class MemorizingAttention(_Layer):
    Config = MemorizingAttentionConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        window: int = 64,
        memory_size: int = 8192,
        top_k: int = 32,
        stop_gradient: bool = True,
        initial_scale: float = 1.0,
        rotary_base: float | None = 10000.0,
        convolution_size: int = 0,
        layer_index: int = 0,
        depth: int = 1,
    ) -> MemorizingAttention: ...

class HOLA(_Layer):
    Config = HOLAConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        value_heads: int | None = None,
        value_ratio: int = 2,
        convolution_size: int = 4,
        output_gate: bool = True,
        fastest_decay: float = 16.0,
        negative_eigenvalues: bool = False,
        step_size: Literal["gate", "implicit", "kaczmarz", "error_free"] = "gate",
        prefix: bool = False,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        store_size: int = 64,
        segment_size: int = 256,
        evict: Literal["surprise", "recency", "residual", "value"] = "surprise",
        layer_index: int = 0,
        depth: int = 1,
    ) -> HOLA: ...

class BMojo(_Layer):
    Config = BMojoConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        window: int = 64,
        rotary_base: float | None = 10000.0,
        memory: LayerConfig = ...,
        layer_index: int = 0,
        depth: int = 1,
    ) -> BMojo: ...

class TTTLinear(_Layer):
    Config = TTTLinearConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        backbone: Literal["mamba", "transformer"] = "mamba",
        convolution_size: int = 4,
        update_every: int = 16,
        base_learning_rate: float = 1.0,
        rotary_base: float = 10000.0,
        norm_epsilon: float = 1e-06,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> TTTLinear: ...

class TTTMLP(_Layer):
    Config = TTTMLPConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        backbone: Literal["mamba", "transformer"] = "mamba",
        convolution_size: int = 4,
        update_every: int = 16,
        base_learning_rate: float = 0.1,
        rotary_base: float = 10000.0,
        norm_epsilon: float = 1e-06,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> TTTMLP: ...

class OmegaNet(_Layer):
    Config = OmegaNetConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        memory_depth: int = 2,
        memory_expansion: int = 4,
        activation: Literal["gelu", "silu"] = "gelu",
        update_every: int = 16,
        forget: bool = True,
        max_learning_rate: float = 0.1,
        clip: float | None = 1.0,
        persistent_tokens: int = 0,
        convolution_size: int = 4,
        output_gate: bool = True,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        feature_size: int = 8,
        degree: int = 2,
        loss_window: int = 4,
        layer_index: int = 0,
        depth: int = 1,
    ) -> OmegaNet: ...

class Atlas(_Layer):
    Config = AtlasConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        memory_depth: int = 2,
        memory_expansion: int = 4,
        activation: Literal["gelu", "silu"] = "gelu",
        update_every: int = 16,
        forget: bool = True,
        max_learning_rate: float = 0.1,
        clip: float | None = 1.0,
        persistent_tokens: int = 0,
        convolution_size: int = 4,
        output_gate: bool = True,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        feature_size: int = 8,
        degree: int = 2,
        loss_window: int = 4,
        newton_schulz_steps: int = 5,
        layer_index: int = 0,
        depth: int = 1,
    ) -> Atlas: ...

class Yaad(_Layer):
    Config = YaadConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        memory_depth: int = 2,
        memory_expansion: int = 4,
        activation: Literal["gelu", "silu"] = "gelu",
        update_every: int = 16,
        forget: bool = True,
        max_learning_rate: float = 0.1,
        clip: float | None = 1.0,
        persistent_tokens: int = 0,
        convolution_size: int = 4,
        output_gate: bool = True,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> Yaad: ...

class Moneta(_Layer):
    Config = MonetaConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        memory_depth: int = 2,
        memory_expansion: int = 4,
        activation: Literal["gelu", "silu"] = "gelu",
        update_every: int = 16,
        forget: bool = True,
        max_learning_rate: float = 0.1,
        clip: float | None = 1.0,
        persistent_tokens: int = 0,
        convolution_size: int = 4,
        output_gate: bool = True,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        loss_power: float = 3.0,
        norm_power: float = 4.0,
        layer_index: int = 0,
        depth: int = 1,
    ) -> Moneta: ...

class Memora(_Layer):
    Config = MemoraConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        memory_depth: int = 2,
        memory_expansion: int = 4,
        activation: Literal["gelu", "silu"] = "gelu",
        update_every: int = 16,
        forget: bool = True,
        max_learning_rate: float = 0.1,
        clip: float | None = 1.0,
        persistent_tokens: int = 0,
        convolution_size: int = 4,
        output_gate: bool = True,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> Memora: ...

class LaCT(_Layer):
    Config = LaCTConfig
    def __new__(
        cls,
        width: int,
        *,
        rngs: nnx.Rngs,
        num_heads: int = 4,
        head_size: int | None = None,
        memory_expansion: int = 1,
        update_every: int = 2048,
        momentum: bool = True,
        newton_schulz_steps: int = 0,
        initial_learning_rate: float = 0.001,
        convolution_size: int = 4,
        output_gate: bool = True,
        norm_epsilon: float = 1e-05,
        chunk_size: int | None = None,
        layer_index: int = 0,
        depth: int = 1,
    ) -> LaCT: ...
