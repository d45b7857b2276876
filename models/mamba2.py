"""Mamba-2's SSD layer: a matrix memory with one data-dependent decay per head."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from einops import repeat
from flax import nnx
from jaxtyping import Array, Float

from memzoo.errors import InputError

from .associative_memory import AssociativeState, MatrixMemory
from .decay_init import init_log_a, init_time_bias
from .interface import Layout
from .layer_checks import check_chunk_size, check_convolution, check_positive
from .layer_config import Family, RegisteredConfig
from .memory_inputs import MemoryInputs
from .ops.scalar_decay import SCALAR_DECAY, ScalarDecayTokens
from .projection import RMSNorm, ShortConvolution, projection
from .read_out import ReadOut
from .regression import Regression
from .streams import Stream, Tails


@dataclass(frozen=True, kw_only=True)
class Mamba2Config(RegisteredConfig):
    """The SSD layer of Mamba-2 (Dao and Gu 2024, arXiv:2405.21060).

    Per head, with x, B, C after one short convolution and SiLU:

        dt_t = clip(softplus(W_dt u_t + dt_bias)),  A = -exp(log_a)
        S_t = exp(dt_t A) S_(t-1) + dt_t B_t x_t^T
        o_t = S_t^T C_t + D x_t
        y_t = W_o norm(o_t * silu(z_t))

    B and C are shared by the heads of a group, and the norm is taken in each group.

    Initial -A is uniform between fastest_decay / 16 and fastest_decay.

    Differs from it in: nothing in the layer; the projection is stored as five maps and
    the convolution as three, where the paper has one each. The gate z is optional.
    """

    family: ClassVar[Family] = "scalar decay"
    regression: ClassVar[Regression | None] = Regression(
        "scalar_decay", "linear", "one_step"
    )
    small: ClassVar[Mapping[str, Any]] = {"head_size": 16, "state_size": 8}

    expand: int = 2
    """Ratio of inner width to width."""
    head_size: int = 64
    """Size of each head's x (value size)."""
    state_size: int = 128
    """Size of B and C (key size)."""
    num_groups: int = 1
    """Number of groups of heads that share B, C and the norm."""
    convolution_size: int = 4
    """Taps of the short convolution on x, B and C; 0: none."""
    output_gate: bool = True
    """Multiply the read by silu(z) before the norm."""
    fastest_decay: float = 16.0
    """Largest initial -A; published: 16. With a single head one draw decides how long
    the memory lasts: choose less then."""
    bias: bool = False
    """Give the projections of x, B, C, z and the output a bias."""
    convolution_bias: bool = True
    """Give the short convolution a bias."""
    shortest_time: float = 0.0
    """Smallest dt."""
    longest_time: float | None = None
    """Largest dt; None: no limit."""
    norm_epsilon: float = 1e-5
    """Epsilon of the read's norm: added to the mean square."""
    chunk_size: int | None = None
    """Tokens per chunk; affects speed only. None: chosen for the backend."""

    def __post_init__(self) -> None:
        check_convolution(self.convolution_size)
        check_chunk_size(self.chunk_size)
        check_positive("norm_epsilon", self.norm_epsilon)
        longest = math.inf if self.longest_time is None else self.longest_time
        if not 0 <= self.shortest_time < longest:
            raise InputError(
                f"shortest_time is {self.shortest_time} and longest_time is "
                f"{self.longest_time}; give 0 or more and a larger number, or None"
            )
        for name in ("expand", "head_size", "state_size", "num_groups"):
            check_positive(name, getattr(self, name))
        check_positive("fastest_decay", self.fastest_decay)

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "Mamba2":
        del layer_index
        return Mamba2(self, width, rngs, depth)


class Mamba2(MatrixMemory):
    """See `Mamba2Config`."""

    rule = SCALAR_DECAY

    def __init__(self, config: Mamba2Config, width: int, rngs: nnx.Rngs, depth: int):
        inner = config.expand * width
        if inner % config.head_size:
            raise InputError(
                f"head_size {config.head_size} does not divide the inner width "
                f"{inner} (expand {config.expand} x width {width}); choose a divisor"
            )
        num_heads = inner // config.head_size
        if num_heads % config.num_groups:
            raise InputError(
                f"num_groups {config.num_groups} does not divide the {num_heads} "
                "heads (expand x width / head_size); choose a divisor"
            )
        self.config = config
        self.num_heads = num_heads
        shared, groups = config.num_groups * config.state_size, config.num_groups
        bias = config.bias

        self.value, self.key, self.query = (
            Stream(
                width,
                size,
                heads,
                rngs,
                bias=bias,
                activation=True,
                per_memory=per_memory,
            )
            for size, heads, per_memory in (
                (inner, num_heads, True),
                (shared, groups, True),
                (shared, groups, False),
            )
        )
        gate = projection(width, inner, rngs, bias=bias) if config.output_gate else None
        self.time = projection(width, num_heads, rngs, per_memory=True)
        if config.convolution_size:
            sizes = (inner, shared, shared)
            whole = ShortConvolution(
                sum(sizes), config.convolution_size, rngs, bias=config.convolution_bias
            )
            self.value.convolution, self.key.convolution, self.query.convolution = (
                whole.split(sizes)
            )
        fastest = config.fastest_decay
        log_a = init_log_a(rngs, num_heads, minimum=fastest / 16, maximum=fastest)
        self.log_a = nnx.Param(log_a)
        self.time_bias = nnx.Param(init_time_bias(rngs, num_heads))
        self.skip = nnx.Param(jnp.ones((num_heads,), jnp.float32))
        self.read_out = ReadOut(
            inner,
            width,
            rngs,
            depth=depth,
            norm=RMSNorm(inner, config.norm_epsilon, num_groups=groups),
            norm_per_head=False,
            gate=gate,
            gate_first=True,
            bias=bias,
        )

    def init_memory(self, batch_size: int) -> Float[Array, "b h k v"]:
        config = self.config
        shape = (batch_size, self.num_heads, config.state_size, config.head_size)
        return jnp.zeros(shape, jnp.float32)

    def inputs(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        (query, key, value), tails = self.streams(x, state.tails, layout)
        each = self.num_heads // self.config.num_groups
        key = repeat(key, "b t g k -> b t (g e) k", e=each)
        query = repeat(query, "b t g k -> b t (g e) k", e=each)
        time = self.time(x).astype(jnp.float32)
        time = jax.nn.softplus(time + self.time_bias[...][None, None, :])
        least, most = self.config.shortest_time, self.config.longest_time
        if least or most is not None:
            time = jnp.clip(time, least, most)
        log_decay = -jnp.exp(self.log_a[...])[None, None, :] * time
        skip = self.skip[...].astype(x.dtype)[None, None, :, None] * value
        value = (time[..., None] * value.astype(jnp.float32)).astype(x.dtype)
        tokens = ScalarDecayTokens(query, key, value, log_decay)
        return MemoryInputs(tokens, skip), tails
