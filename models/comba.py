"""Comba: the delta rule with weaker erasing and a corrected query."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .associative_memory import AssociativeState, MatrixMemory
from .decay_init import init_log_a, init_time_bias
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
class CombaConfig(RegisteredConfig):
    """Comba (2025, arXiv:2506.02475): closed-loop control of a bilinear recurrence.

    Per head, with unit(u) = u / |u|, beta_t = sigmoid(w_b . x_t) and
    learned numbers c and d:

        alpha_t = exp(-exp(log_a) softplus(w_a . x_t + time_bias))
        S_t = alpha_t S_(t-1)
              + beta_t unit(k_t) (v_t - alpha_t sigmoid(c) S_(t-1)^T unit(k_t))^T
        o_t = S_t^T unit(q_t - d sigmoid(c) k_t) / sqrt(head size)
        y_t = W_o (norm(o_t) * sigmoid(W_g x_t))

    With sigmoid(c) = 1 and d = 0 the memory is that of gated_delta_net.

    Differs from it in: the memory decays before it is read at the key, as in the
    published kernels. Those kernels normalise the erasing key to length 1, so that c
    weakens only the query's correction. Here c weakens the erasing too, as written.
    """

    family: ClassVar[Family] = "delta rule"
    regression: ClassVar[Regression | None] = Regression(
        "scalar_decay", "linear", "online"
    )

    num_heads: int = 4
    head_size: int | None = None
    """Size of each head's queries and keys; None: width / num_heads."""
    value_ratio: int = 2
    """Ratio of value size to key size."""
    convolution_size: int = 4
    """Taps of the short convolutions on queries, keys and values; 0: none."""
    output_gate: bool = True
    """Multiply the read by sigmoid(W_g x)."""
    correction: float = 1.0
    """Initial d. Published: 1, or 0.02 for small models."""
    fastest_decay: float = 16.0
    """Initial exp(log_a) is uniform between 0 and this; published: 16. With one or two
    heads a draw near 16 forgets within a few tokens; choose 1 then."""
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

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "Comba":
        del layer_index
        return Comba(self, width, rngs, depth)


class Comba(MatrixMemory):
    """See `CombaConfig`."""

    rule = ERASE_WRITE

    def __init__(self, config: CombaConfig, width: int, rngs: nnx.Rngs, depth: int):
        heads = config.num_heads
        size = resolve_head_size(width, heads, config.head_size)
        self.config = config
        self.head_size = size
        self.value_size = size * config.value_ratio
        keys, values = heads * size, heads * self.value_size
        self.query, self.key, self.value = query_key_value(
            width,
            (keys, keys, values),
            (heads, heads, heads),
            config.convolution_size,
            rngs,
        )
        self.write_strength = projection(width, heads, rngs, per_memory=True)
        self.decay = projection(width, heads, rngs, per_memory=True)
        log_a = init_log_a(rngs, heads, minimum=0.0, maximum=config.fastest_decay)
        self.log_a = nnx.Param(log_a)
        self.time_bias = nnx.Param(init_time_bias(rngs, heads))
        self.erase_bias = nnx.Param(jnp.ones((heads,), jnp.float32))
        self.correction = nnx.Param(jnp.full((heads,), config.correction, jnp.float32))
        self.read_out = ReadOut(
            values,
            width,
            rngs,
            depth=depth,
            norm=RMSNorm(self.value_size, config.norm_epsilon),
            gate=projection(width, values, rngs) if config.output_gate else None,
            activation="sigmoid",
        )

    def init_memory(self, batch_size: int) -> Float[Array, "b h k v"]:
        shape = (batch_size, self.config.num_heads, self.head_size, self.value_size)
        return jnp.zeros(shape, jnp.float32)

    def inputs(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        (q, k, v), tails = self.streams(x, state.tails, layout)
        strength = jax.nn.sigmoid(self.write_strength(x).astype(jnp.float32))[..., None]
        time = self.decay(x).astype(jnp.float32) + self.time_bias[...][None, None, :]
        log_decay = -jnp.exp(self.log_a[...])[None, None, :] * jax.nn.softplus(time)
        weaker = jax.nn.sigmoid(self.erase_bias[...])[None, None, :, None]
        correction = self.correction[...][None, None, :, None] * weaker
        q = (q - correction * k).astype(q.dtype)
        q, k = l2_normalise(q) * self.head_size**-0.5, l2_normalise(k)
        tokens = EraseWriteTokens(
            query=q,
            key=k,
            value=(strength * v).astype(v.dtype),
            erase=(weaker * strength * k).astype(k.dtype),
            log_decay=log_decay[..., None],
        )
        return MemoryInputs(tokens), tails
