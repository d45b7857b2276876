"""Gated DeltaNet: the delta rule on a memory that decays."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from einops import repeat
from flax import nnx
from jaxtyping import Array, Float

from memzoo.errors import InputError

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
from .ops.delta_rule import DELTA_RULE, DeltaTokens
from .ops.normalisation import l2_normalise
from .projection import RMSNorm, projection
from .read_out import ReadOut
from .regression import Regression
from .step_size import StepSize, check_step_size, key_and_step
from .streams import Encoder, Tails, query_key_value


@dataclass(frozen=True, kw_only=True)
class GatedDeltaFields(RegisteredConfig):
    """Fields that layers with the gated delta rule share."""

    family: ClassVar[Family] = "delta rule"

    num_heads: int = 4
    """Number of query and key heads."""
    head_size: int | None = None
    """Size of each head's queries and keys; None: width / num_heads."""
    value_heads: int | None = None
    """Number of value heads, a multiple of num_heads; None: num_heads."""
    value_ratio: int = 2
    """Ratio of value size to key size."""
    convolution_size: int = 4
    """Taps of the short convolutions on queries, keys and values; 0: none."""
    output_gate: bool = True
    """Multiply the read by silu(W_g x)."""
    fastest_decay: float = 16.0
    """Initial exp(log_a) is uniform between 0 and this; published: 16. With one or two
    heads a draw near 16 forgets within a few tokens; choose 1 then."""
    negative_eigenvalues: bool = False
    """Use write strengths in (0, 2) instead of (0, 1) (arXiv:2411.12537)."""
    step_size: StepSize = "gate"
    """Size of the gradient step. gate: beta_t, with keys of length 1. The others have
    keys of any length. implicit: beta_t / (1 + beta_t |k_t|^2). kaczmarz: beta_t /
    |k_t|^2 (arXiv:2605.08587). error_free: (1 - exp(-beta_t |k_t|^2)) / |k_t|^2."""
    prefix: bool = False
    """Accept a prefix; adds maps to the prefix's keys and values."""
    norm_epsilon: float = 1e-5
    """Epsilon of the read's norm: added to the mean square."""
    chunk_size: int | None = None
    """Tokens per chunk; affects speed only. None: chosen for the backend."""

    def __post_init__(self) -> None:
        check_convolution(self.convolution_size)
        check_chunk_size(self.chunk_size)
        check_positive("norm_epsilon", self.norm_epsilon)
        check_positive("num_heads", self.num_heads)
        check_positive("value_ratio", self.value_ratio)
        check_positive("fastest_decay", self.fastest_decay)
        if self.value_heads is not None and (
            self.value_heads < 1 or self.value_heads % self.num_heads
        ):
            raise InputError(
                f"value_heads {self.value_heads} is not a multiple of num_heads "
                f"{self.num_heads}; choose a multiple or None"
            )
        check_step_size(self.step_size, negative_eigenvalues=self.negative_eigenvalues)
        if self.prefix and self.step_size != "gate":
            raise InputError(
                f"step_size {self.step_size} does not write a prefix; set step_size to "
                "gate, or prefix to False"
            )


@dataclass(frozen=True, kw_only=True)
class GatedDeltaNetConfig(GatedDeltaFields):
    """Gated DeltaNet (Yang, Kautz and Hatamizadeh 2024, arXiv:2412.06464).

    Per head, with keys and queries of length 1 and beta_t = sigmoid(w_b . x_t):

        alpha_t = exp(-exp(log_a) softplus(w_a . x_t + time_bias))
        S_t = alpha_t S_(t-1) + beta_t k_t (v_t - alpha_t S_(t-1)^T k_t)^T
        o_t = S_t^T q_t / sqrt(head size)
        y_t = W_o (norm(o_t) * silu(W_g x_t))

    With `prefix`, the M tokens of a prefix are first read non-causally, an idea of
    arXiv:2407.05483. The same rule writes them, with the same gates alpha and beta and
    with keys ke and values ve from separate maps (each with convolution, SiLU and norm
    as k and v have):

        E_0 = 0,  E_t = alpha_t E_(t-1) + beta_t ke_t (ve_t - alpha_t E_(t-1)^T ke_t)^T

    The causal pass then reads all tokens, the prefix included, from S_0 = E_M in place
    of 0.

    Differs from it in: only the option `prefix`; sizes are free (published: heads of
    256, values twice as large).
    """

    regression: ClassVar[Regression | None] = Regression(
        "scalar_decay", "linear", "online"
    )

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "GatedDeltaNet":
        del layer_index
        return GatedDeltaNet(self, width, rngs, depth)


class GatedDeltaNet(MatrixMemory):
    """See `GatedDeltaNetConfig`."""

    rule = DELTA_RULE

    def __init__(
        self, config: GatedDeltaFields, width: int, rngs: nnx.Rngs, depth: int
    ):
        size = resolve_head_size(width, config.num_heads, config.head_size)
        self.config = config
        self.head_size = size
        self.value_heads = config.value_heads or config.num_heads
        self.value_size = size * config.value_ratio
        keys = config.num_heads * size
        values = self.value_heads * self.value_size
        self.query, self.key, self.value = query_key_value(
            width,
            (keys, keys, values),
            (config.num_heads, config.num_heads, self.value_heads),
            config.convolution_size,
            rngs,
        )
        self.accepts_prefix = config.prefix
        if config.prefix:
            self.encoder = Encoder(
                width,
                (keys, values),
                (config.num_heads, self.value_heads),
                config.convolution_size,
                rngs,
                activation=True,
            )
        self.write_strength = projection(width, self.value_heads, rngs, per_memory=True)
        self.decay = projection(width, self.value_heads, rngs, per_memory=True)
        self.log_a = nnx.Param(
            init_log_a(
                rngs, self.value_heads, minimum=0.0, maximum=config.fastest_decay
            )
        )
        self.time_bias = nnx.Param(init_time_bias(rngs, self.value_heads))
        self.read_out = ReadOut(
            values,
            width,
            rngs,
            depth=depth,
            norm=RMSNorm(self.value_size, config.norm_epsilon),
            gate=projection(width, values, rngs) if config.output_gate else None,
        )

    def init_memory(self, batch_size: int) -> Float[Array, "b h k v"]:
        shape = (batch_size, self.value_heads, self.head_size, self.value_size)
        return jnp.zeros(shape, jnp.float32)

    def inputs(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        (q, k, v), tails = self.streams(x, state.tails, layout)
        strength = jax.nn.sigmoid(self.write_strength(x).astype(jnp.float32))
        if self.config.negative_eigenvalues:
            strength = 2 * strength
        time = self.decay(x).astype(jnp.float32) + self.time_bias[...][None, None, :]
        log_decay = -jnp.exp(self.log_a[...])[None, None, :] * jax.nn.softplus(time)
        q = self._for_values(l2_normalise(q) * self.head_size**-0.5)
        k, step = key_and_step(self.config.step_size, self._for_values(k), strength)
        return MemoryInputs(DeltaTokens(q, k, v, step, log_decay)), tails

    def prefix_inputs(
        self, x: Float[Array, "b t d"], inputs: MemoryInputs, layout: Layout
    ) -> MemoryInputs:
        k, v = self.encoder(x, layout)
        k = self._for_values(l2_normalise(k))
        return inputs._replace(tokens=inputs.tokens._replace(key=k, value=v))

    def _for_values(self, x: Float[Array, "b t g k"]) -> Float[Array, "b t h k"]:
        """Return queries or keys, repeated for every value head that uses them."""
        each = self.value_heads // self.config.num_heads
        return x if each == 1 else repeat(x, "b t h k -> b t (h e) k", e=each)
