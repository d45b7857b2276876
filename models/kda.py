"""Kimi Delta Attention: the delta rule with a decay for every channel of the key."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .associative_memory import AssociativeState, MatrixMemory
from .channel_gates import ChannelDecay, LowRank
from .interface import Layout
from .layer_checks import (
    check_chunk_size,
    check_convolution,
    check_positive,
    resolve_head_size,
)
from .layer_config import Family, RegisteredConfig
from .memory_inputs import MemoryInputs
from .ops.erase_write import ERASE_WRITE, EraseWriteTokens
from .ops.normalisation import l2_normalise
from .projection import RMSNorm, projection
from .read_out import ReadOut
from .regression import Regression
from .streams import Tails, query_key_value


@dataclass(frozen=True, kw_only=True)
class KDAConfig(RegisteredConfig):
    """Kimi Delta Attention (Kimi Team 2025, arXiv:2510.26692).

    Per head, with keys and queries of length 1, beta_t = sigmoid(w_b . x_t) and one
    decay for each channel of the key:

        alpha_t = exp(-exp(log_a) softplus(W_up W_down x_t + time_bias))
        S_t = diag(alpha_t) S_(t-1) + beta_t k_t (v_t - S_(t-1)^T diag(alpha_t) k_t)^T
        o_t = S_t^T q_t / sqrt(head size)
        y_t = W_o (norm(o_t) * sigmoid(G_up G_down x_t + b))

    Differs from it in: nothing in the layer; sizes are free.
    """

    family: ClassVar[Family] = "delta rule"
    regression: ClassVar[Regression | None] = Regression(
        "channel_decay", "linear", "online"
    )

    num_heads: int = 4
    head_size: int | None = None
    """Size of each head's queries and keys; None: width / num_heads."""
    value_ratio: int = 1
    """Ratio of value size to key size."""
    convolution_size: int = 4
    """Taps of the short convolutions on queries, keys and values; 0: none."""
    output_gate: bool = True
    """Multiply the read by the sigmoid of a low-rank map."""
    gate_rank: int | None = None
    """Rank of the maps to decays and output gate; None: the value size."""
    fastest_decay: float = 16.0
    """Initial exp(log_a) is uniform between a 16th of this and this. With one or two
    heads a draw near 16 forgets within a few tokens; choose 1 then."""
    negative_eigenvalues: bool = False
    """Erase with strengths in (0, 2) instead of (0, 1) (arXiv:2411.12537)."""
    norm_epsilon: float = 1e-5
    """Epsilon of the read's norm: added to the mean square."""
    chunk_size: int | None = None
    """Tokens per chunk; affects speed only. None: chosen for the backend."""

    def __post_init__(self) -> None:
        check_convolution(self.convolution_size)
        check_chunk_size(self.chunk_size)
        check_positive("norm_epsilon", self.norm_epsilon)
        check_positive("value_ratio", self.value_ratio)
        check_positive("fastest_decay", self.fastest_decay)
        if self.gate_rank is not None:
            check_positive("gate_rank", self.gate_rank)

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "KDA":
        del layer_index
        return KDA(self, width, rngs, depth)


class KDA(MatrixMemory):
    """See `KDAConfig`."""

    rule = ERASE_WRITE

    def __init__(self, config: KDAConfig, width: int, rngs: nnx.Rngs, depth: int):
        heads = config.num_heads
        size = resolve_head_size(width, heads, config.head_size)
        self.config = config
        self.head_size = size
        self.value_size = size * config.value_ratio
        keys, values = heads * size, heads * self.value_size
        rank = config.gate_rank or self.value_size
        self.query, self.key, self.value = query_key_value(
            width,
            (keys, keys, values),
            (heads, heads, heads),
            config.convolution_size,
            rngs,
        )
        self.write_strength = projection(width, heads, rngs, per_memory=True)
        self.decay = ChannelDecay(
            width, rank, heads, size, rngs, fastest=config.fastest_decay
        )
        gate = None
        if config.output_gate:
            gate = LowRank(width, rank, values, rngs, bias=True)
        self.read_out = ReadOut(
            values,
            width,
            rngs,
            depth=depth,
            norm=RMSNorm(self.value_size, config.norm_epsilon),
            gate=gate,
            activation="sigmoid",
        )

    def init_memory(self, batch_size: int) -> Float[Array, "b h k v"]:
        shape = (batch_size, self.config.num_heads, self.head_size, self.value_size)
        return jnp.zeros(shape, jnp.float32)

    def inputs(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        (q, k, v), tails = self.streams(x, state.tails, layout)
        erase, write = self.strengths(x)
        q, k = l2_normalise(q) * self.head_size**-0.5, l2_normalise(k)
        tokens = EraseWriteTokens(
            query=q,
            key=k,
            value=(write * v).astype(v.dtype),
            erase=(erase * k).astype(k.dtype),
            log_decay=self.decay(x),
        )
        return MemoryInputs(tokens), tails

    def strengths(
        self, x: Float[Array, "b t d"]
    ) -> tuple[Float[Array, "b t h #k"], Float[Array, "b t h #v"]]:
        """Return the factors of erasing keys and of values, in float32."""
        strength = jax.nn.sigmoid(self.write_strength(x).astype(jnp.float32))[..., None]
        if self.config.negative_eigenvalues:
            strength = 2 * strength
        return strength, strength
