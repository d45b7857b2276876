"""RetNet's retention: a matrix memory with one fixed decay per head."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .associative_memory import AssociativeState, MatrixMemory
from .interface import Layout
from .layer_checks import (
    check_chunk_size,
    check_convolution,
    check_even,
    check_positive,
    check_rotary_base,
    resolve_head_size,
)
from .layer_config import Family, RegisteredConfig
from .memory_inputs import MemoryInputs
from .ops.rotary import rotary
from .ops.scalar_decay import SCALAR_DECAY, ScalarDecayTokens
from .projection import RMSNorm, projection
from .read_out import ReadOut
from .regression import Regression
from .streams import Tails, query_key_value


@dataclass(frozen=True, kw_only=True)
class RetNetConfig(RegisteredConfig):
    """Multi-scale retention (Sun et al. 2023, arXiv:2307.08621).

    Head h = 0, 1, ... with queries and keys rotated by position:

        S_t = gamma_h S_(t-1) + k_t v_t^T,  gamma_h = 1 - 2^(-5 - h)
        o_t = S_t^T q_t / sqrt(key size)
        y_t = W_o (norm(o_t) * silu(W_g x_t))

    Differs from it in: rotary positions in place of xPos, root-mean-square norm in
    place of group norm, no normaliser (as in flash-linear-attention); optional short
    convolutions, with SiLU; the gate is optional.
    """

    family: ClassVar[Family] = "scalar decay"
    regression: ClassVar[Regression | None] = Regression(
        "scalar_decay", "linear", "one_step"
    )

    num_heads: int = 4
    head_size: int | None = None
    """Size of each head's queries and keys; None: width / num_heads."""
    value_ratio: int = 2
    """Ratio of value size to key size."""
    convolution_size: int = 0
    """Taps of the short convolutions on queries, keys and values; 0: none."""
    output_gate: bool = True
    """Multiply the read by silu(W_g x)."""
    rotary_base: float = 10000.0
    norm_epsilon: float = 1e-5
    """Epsilon of the read's norm: added to the mean square."""
    chunk_size: int | None = None
    """Tokens per chunk; affects speed only. None: chosen for the backend."""

    def __post_init__(self) -> None:
        check_convolution(self.convolution_size)
        check_chunk_size(self.chunk_size)
        check_positive("norm_epsilon", self.norm_epsilon)
        check_positive("value_ratio", self.value_ratio)
        check_rotary_base(self.rotary_base)

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "RetNet":
        del layer_index
        return RetNet(self, width, rngs, depth)


class RetNet(MatrixMemory):
    """See `RetNetConfig`."""

    rule = SCALAR_DECAY

    def __init__(self, config: RetNetConfig, width: int, rngs: nnx.Rngs, depth: int):
        size = resolve_head_size(width, config.num_heads, config.head_size)
        check_even("head_size", size, "rotary positions rotate pairs")
        self.config = config
        self.head_size = size
        keys = config.num_heads * size
        values = keys * config.value_ratio
        self.query, self.key, self.value = query_key_value(
            width,
            (keys, keys, values),
            (config.num_heads, config.num_heads, config.num_heads),
            config.convolution_size,
            rngs,
            activation=config.convolution_size > 0,
        )
        self.read_out = ReadOut(
            values,
            width,
            rngs,
            depth=depth,
            norm=RMSNorm(size * config.value_ratio, config.norm_epsilon),
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
        place, _ = layout.positions(state.position, x.shape[1])
        base = self.config.rotary_base
        q = rotary(q, place, base=base) * self.head_size**-0.5
        head = jnp.arange(self.config.num_heads, dtype=jnp.float32)
        log_decay = jnp.log1p(-jnp.exp2(-5.0 - head))
        log_decay = jnp.broadcast_to(log_decay, q.shape[:3])
        k = rotary(k, place, base=base)
        return MemoryInputs(ScalarDecayTokens(q, k, v, log_decay)), tails
