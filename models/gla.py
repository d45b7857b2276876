"""Gated linear attention: a matrix memory with a decay for every channel of the key."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from memzoo.errors import InputError

from .associative_memory import AssociativeState, MatrixMemory
from .channel_gates import LowRank
from .interface import Layout
from .layer_checks import (
    check_chunk_size,
    check_convolution,
    check_positive,
    resolve_head_size,
)
from .layer_config import Family, RegisteredConfig
from .memory_inputs import MemoryInputs
from .ops.vector_decay import VECTOR_DECAY, VectorDecayTokens
from .projection import RMSNorm, projection, split_heads
from .read_out import ReadOut
from .regression import Regression
from .streams import Tails, query_key_value


@dataclass(frozen=True, kw_only=True)
class GLAConfig(RegisteredConfig):
    """Gated linear attention (Yang et al. 2023, arXiv:2312.06635).

    Per head, with sigma the sigmoid and one decay for each channel of the key:

        alpha_t = sigma(W_up W_down x_t + b)^(1 / temperature)
        S_t = diag(alpha_t) S_(t-1) + k_t v_t^T
        o_t = S_t^T q_t / sqrt(key size)
        y_t = W_o (norm(o_t) * silu(W_g x_t))

    Differs from it in: root-mean-square norm in place of layer norm and no bias in the
    output gate, as in flash-linear-attention; optional short convolutions, with SiLU.
    """

    family: ClassVar[Family] = "vector decay"
    regression: ClassVar[Regression | None] = Regression(
        "channel_decay", "linear", "one_step"
    )

    num_heads: int = 4
    head_size: int | None = None
    """Size of each head's queries and keys; None: width / num_heads / value_ratio."""
    value_ratio: int = 2
    """Ratio of value size to key size."""
    convolution_size: int = 0
    """Taps of the short convolutions on queries, keys and values; 0: none."""
    output_gate: bool = True
    """Multiply the read by silu(W_g x)."""
    decay_rank: int = 16
    """Rank of the low-rank map to the decays."""
    temperature: float = 16.0
    """Larger values keep decays closer to 1."""
    norm_epsilon: float = 1e-5
    """Epsilon of the read's norm: added to the mean square."""
    chunk_size: int | None = None
    """Tokens per chunk; affects speed only. None: chosen for the backend."""

    def __post_init__(self) -> None:
        check_convolution(self.convolution_size)
        check_chunk_size(self.chunk_size)
        check_positive("norm_epsilon", self.norm_epsilon)
        for name in ("value_ratio", "decay_rank", "temperature"):
            check_positive(name, getattr(self, name))

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "GLA":
        del layer_index
        return GLA(self, width, rngs, depth)

    def key_size(self, width: int) -> int:
        """Return the size of a key.

        Raises:
            InputError: the width does not divide into heads of keys.
        """
        size = resolve_head_size(width, self.num_heads, self.head_size)
        if self.head_size is not None:
            return size
        if size % self.value_ratio:
            raise InputError(
                f"value_ratio {self.value_ratio} does not divide {size}, the width "
                "over num_heads; choose a divisor or set head_size"
            )
        return size // self.value_ratio


class GLA(MatrixMemory):
    """See `GLAConfig`."""

    rule = VECTOR_DECAY

    def __init__(self, config: GLAConfig, width: int, rngs: nnx.Rngs, depth: int):
        self.config = config
        self.head_size = config.key_size(width)
        keys = config.num_heads * self.head_size
        values = keys * config.value_ratio
        self.query, self.key, self.value = query_key_value(
            width,
            (keys, keys, values),
            (config.num_heads, config.num_heads, config.num_heads),
            config.convolution_size,
            rngs,
            activation=config.convolution_size > 0,
        )
        self.decay = LowRank(
            width, config.decay_rank, keys, rngs, bias=True, per_memory=True
        )
        self.read_out = ReadOut(
            values,
            width,
            rngs,
            depth=depth,
            norm=RMSNorm(self.head_size * config.value_ratio, config.norm_epsilon),
            gate=projection(width, values, rngs) if config.output_gate else None,
        )

    def init_memory(self, batch_size: int) -> Float[Array, "b h k v"]:
        value_size = self.head_size * self.config.value_ratio
        shape = (batch_size, self.config.num_heads, self.head_size, value_size)
        return jnp.zeros(shape, jnp.float32)

    def inputs(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        (q, k, v), tails = self.streams(x, state.tails, layout)
        decay = split_heads(self.decay(x).astype(jnp.float32), self.config.num_heads)
        log_decay = jax.nn.log_sigmoid(decay) / self.config.temperature
        q = q * self.head_size**-0.5
        return MemoryInputs(VectorDecayTokens(q, k, v, log_decay)), tails
