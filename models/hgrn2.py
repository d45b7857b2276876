"""HGRN2: a matrix memory whose keys are one minus its decays."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .associative_memory import AssociativeState, MatrixMemory
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
from .projection import RMSNorm
from .read_out import ReadOut
from .regression import Regression
from .streams import Tails, query_key_value


@dataclass(frozen=True, kw_only=True)
class HGRN2Config(RegisteredConfig):
    """HGRN2 (Qin et al. 2024, arXiv:2404.07904).

    Per head, with a lower bound gamma for each channel of the key:

        alpha_t = gamma + (1 - gamma) sigmoid(W_f x_t)
        S_t = diag(alpha_t) S_(t-1) + (1 - alpha_t) (W_v x_t)^T
        o_t = S_t^T silu(W_q x_t) / sqrt(key size)
        y_t = W_o norm(o_t), the norm over all heads

    Differs from it in: every layer learns its lower bound gamma = sigmoid(c). In the
    paper the bounds of all layers are running sums of one softmax over the layers. Both
    begin at l / L in layer l of L, here at no less than 0.01.
    """

    family: ClassVar[Family] = "vector decay"
    regression: ClassVar[Regression | None] = Regression(
        "channel_decay", "linear", "one_step"
    )

    num_heads: int = 4
    head_size: int | None = None
    """Size of each head's queries and keys; None: width / num_heads. Paper: 128."""
    convolution_size: int = 0
    """Taps of the short convolutions on queries, forget gates and values; 0: none."""
    lower_bound: bool = True
    """Bound decays from below, higher in later layers; False: gamma = 0."""
    norm_epsilon: float = 1e-5
    """Epsilon of the read's norm: added to the mean square."""
    chunk_size: int | None = None
    """Tokens per chunk; affects speed only. None: chosen for the backend."""

    def __post_init__(self) -> None:
        check_convolution(self.convolution_size)
        check_chunk_size(self.chunk_size)
        check_positive("norm_epsilon", self.norm_epsilon)

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "HGRN2":
        return HGRN2(self, width, rngs, layer_index, depth)


class HGRN2(MatrixMemory):
    """See `HGRN2Config`."""

    rule = VECTOR_DECAY

    def __init__(
        self,
        config: HGRN2Config,
        width: int,
        rngs: nnx.Rngs,
        layer_index: int | Array,
        depth: int,
    ):
        heads = config.num_heads
        self.config = config
        self.value_size = resolve_head_size(width, heads, None)
        self.head_size = resolve_head_size(width, heads, config.head_size)
        keys = heads * self.head_size
        self.query, self.key, self.value = query_key_value(
            width,
            (keys, keys, width),
            (heads, heads, heads),
            config.convolution_size,
            rngs,
            activation=False,
        )
        share = jnp.maximum(jnp.asarray(layer_index, jnp.float32) / depth, 0.01)
        logit = jnp.full((keys,), jnp.log(share) - jnp.log1p(-share))
        self.lower_bound = nnx.Param(logit) if config.lower_bound else None
        self.read_out = ReadOut(
            width,
            width,
            rngs,
            depth=depth,
            norm=RMSNorm(width, config.norm_epsilon),
            norm_per_head=False,
        )

    def init_memory(self, batch_size: int) -> Float[Array, "b h k v"]:
        shape = (batch_size, self.config.num_heads, self.head_size, self.value_size)
        return jnp.zeros(shape, jnp.float32)

    def inputs(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        (q, forget, v), tails = self.streams(x, state.tails, layout)
        forget = forget.astype(jnp.float32)
        log_decay = jax.nn.log_sigmoid(forget)
        # 1 - alpha without cancellation where alpha is near 1.
        key = jax.nn.sigmoid(-forget)
        if self.lower_bound is not None:
            bound = self.lower_bound[...].reshape(1, 1, *forget.shape[2:])
            log_decay = jnp.logaddexp(
                jax.nn.log_sigmoid(bound), jax.nn.log_sigmoid(-bound) + log_decay
            )
            key = jax.nn.sigmoid(-bound) * key
        q = jax.nn.silu(q) * self.head_size**-0.5
        tokens = VectorDecayTokens(q, key.astype(q.dtype), v, log_decay)
        return MemoryInputs(tokens), tails
