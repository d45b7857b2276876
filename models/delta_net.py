"""DeltaNet: a matrix memory that corrects the value stored at a key."""

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
from .ops.delta_rule import DELTA_RULE, DeltaTokens
from .ops.normalisation import l2_normalise
from .projection import RMSNorm, projection
from .read_out import ReadOut
from .regression import Regression
from .step_size import StepSize, check_step_size, key_and_step
from .streams import Tails, query_key_value


@dataclass(frozen=True, kw_only=True)
class DeltaNetConfig(RegisteredConfig):
    """DeltaNet (Yang et al. 2024, arXiv:2406.06484).

    Per head, with keys and queries of length 1 and beta_t = sigmoid(w_b . x_t):

        S_t = S_(t-1) + beta_t k_t (v_t - S_(t-1)^T k_t)^T
        o_t = S_t^T q_t / sqrt(head size)

    Differs from it in: nothing; the output gate is left out, as in the paper.
    """

    family: ClassVar[Family] = "delta rule"
    regression: ClassVar[Regression | None] = Regression("uniform", "linear", "online")

    num_heads: int = 4
    head_size: int | None = None
    """Size of each head's queries, keys and values; None: width / num_heads."""
    convolution_size: int = 4
    """Taps of the short convolutions on queries, keys and values; 0: none."""
    negative_eigenvalues: bool = False
    """Use write strengths in (0, 2) instead of (0, 1) (arXiv:2411.12537)."""
    step_size: StepSize = "gate"
    """Size of the gradient step. gate: beta_t, with keys of length 1. The others have
    keys of any length. implicit: beta_t / (1 + beta_t |k_t|^2), Longhorn. kaczmarz:
    beta_t / |k_t|^2. error_free: (1 - exp(-beta_t |k_t|^2)) / |k_t|^2, the exact flow
    of the gradient, EFLA (arXiv:2512.12602)."""
    norm_epsilon: float = 1e-5
    """Epsilon of the read's norm: added to the mean square."""
    chunk_size: int | None = None
    """Tokens per chunk; affects speed only. None: chosen for the backend."""

    def __post_init__(self) -> None:
        check_convolution(self.convolution_size)
        check_chunk_size(self.chunk_size)
        check_positive("norm_epsilon", self.norm_epsilon)
        check_step_size(self.step_size, negative_eigenvalues=self.negative_eigenvalues)

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "DeltaNet":
        del layer_index
        return DeltaNet(self, width, rngs, depth)


class DeltaNet(MatrixMemory):
    """See `DeltaNetConfig`."""

    rule = DELTA_RULE

    def __init__(self, config: DeltaNetConfig, width: int, rngs: nnx.Rngs, depth: int):
        size = resolve_head_size(width, config.num_heads, config.head_size)
        inner = config.num_heads * size
        self.config = config
        self.head_size = size
        self.query, self.key, self.value = query_key_value(
            width,
            (inner, inner, inner),
            (config.num_heads, config.num_heads, config.num_heads),
            config.convolution_size,
            rngs,
        )
        self.write_strength = projection(width, config.num_heads, rngs)
        norm = RMSNorm(size, config.norm_epsilon)
        self.read_out = ReadOut(inner, width, rngs, depth=depth, norm=norm)

    def init_memory(self, batch_size: int) -> Float[Array, "b h k v"]:
        shape = (batch_size, self.config.num_heads, self.head_size, self.head_size)
        return jnp.zeros(shape, jnp.float32)

    def inputs(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        (q, k, v), tails = self.streams(x, state.tails, layout)
        strength = jax.nn.sigmoid(self.write_strength(x).astype(jnp.float32))
        if self.config.negative_eigenvalues:
            strength = 2 * strength
        q = l2_normalise(q) * self.head_size**-0.5
        k, step = key_and_step(self.config.step_size, k, strength)
        return MemoryInputs(DeltaTokens(q, k, v, step)), tails
