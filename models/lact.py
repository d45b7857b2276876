"""LaCT: a SwiGLU whose weights are written once per large chunk of tokens."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from memzoo.errors import InputError

from .associative_memory import AssociativeState
from .interface import Layout
from .layer_checks import (
    check_chunk_size,
    check_convolution,
    check_positive,
    resolve_head_size,
)
from .layer_config import Family, RegisteredConfig
from .memory_inputs import MemoryInputs
from .neural_memory_layer import NeuralMemoryLayer
from .ops.memory_network import MemoryNetwork
from .ops.neural_memory import NeuralTokens
from .ops.normalisation import l2_normalise
from .ops.write_rule import WriteRule
from .ops.write_schedule import Gates
from .projection import RMSNorm, projection
from .read_out import ReadOut
from .streams import Tails, query_key_value


@dataclass(frozen=True, kw_only=True)
class LaCTConfig(RegisteredConfig):
    """Large-chunk test-time training (Zhang et al. 2025, arXiv:2505.23884).

    Per head, with keys and queries of length 1 and, for each of the three matrices W of
    f(x) = (silu(x W_gate) * (x W_up)) W_down, n the chunk of t:

        D_n = sum_(t in n) eta_t grad_W <f(W_n; k_t), v_t> + mean_(t in n)(mu_t) D_(n-1)
        W_(n+1) = rescaled(W_n + D_n)
        y_t = W_o (norm(f(W_n; q_t)) * silu(W_g x_t))

    `rescaled` restores the first norm of the weights into each output. Chunks have
    `update_every` tokens. A token reads what earlier chunks wrote; the last, unfinished
    chunk is not written yet. eta_t = softplus(w . x_t + b) has a value per matrix, and
    mu_t = sigmoid(w . x_t + b).

    Differs from it in: only the memory, without the sliding-window attention that reads
    the chunk's own tokens beside it (put `sliding_window_attention` before it in the
    model); queries and keys have no rotary positions; short convolutions, and an output
    gate per channel instead of one per head; with Newton-Schulz steps, the coefficients
    of Muon for all steps, in float32; packed documents begin chunks of their own.
    """

    family: ClassVar[Family] = "neural memory"
    small: ClassVar[Mapping[str, Any]] = {"update_every": 4, "num_heads": 2}

    num_heads: int = 4
    head_size: int | None = None
    """Size of each head's queries, keys and values; None: width / num_heads."""
    memory_expansion: int = 1
    """Ratio of the memory's hidden size to its key size."""
    update_every: int = 2048
    """Tokens per chunk, which are written together; changes the result."""
    momentum: bool = True
    """Add the step of the previous chunk, times mu; False: mu = 0."""
    newton_schulz_steps: int = 0
    """Steps of the Newton-Schulz iteration on each chunk's step (Muon); 0: none."""
    initial_learning_rate: float = 0.001
    """Value of eta with an input of zeros, before training."""
    convolution_size: int = 4
    """Taps of the short convolutions on queries, keys and values; 0: none."""
    output_gate: bool = True
    """Multiply the read by silu(W_g x)."""
    norm_epsilon: float = 1e-5
    """Epsilon of the read's norm: added to the mean square."""
    chunk_size: int | None = None
    """Tokens computed together; affects speed only. None: chosen for the backend."""

    def __post_init__(self) -> None:
        check_convolution(self.convolution_size)
        check_chunk_size(self.chunk_size)
        for name in (
            "num_heads",
            "memory_expansion",
            "update_every",
            "initial_learning_rate",
            "norm_epsilon",
        ):
            check_positive(name, getattr(self, name))
        if self.newton_schulz_steps < 0:
            raise InputError(
                f"newton_schulz_steps is {self.newton_schulz_steps}; give 0 (none) or "
                "more"
            )

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "LaCT":
        del layer_index
        return LaCT(self, width, rngs, depth)


class LaCT(NeuralMemoryLayer):
    """See `LaCTConfig`."""

    def __init__(self, config: LaCTConfig, width: int, rngs: nnx.Rngs, depth: int):
        size = resolve_head_size(width, config.num_heads, config.head_size)
        heads, inner = config.num_heads, config.num_heads * size
        self.config = config
        self.head_size = size
        self.network = MemoryNetwork(
            kind="swiglu",
            key_size=size,
            value_size=size,
            hidden_size=size * config.memory_expansion,
        )
        self.write_rule = WriteRule(
            update_every=config.update_every,
            loss="inner",
            schedule="lagged",
            keep_output_norms=True,
            newton_schulz_steps=config.newton_schulz_steps,
        )
        self.has_momentum = config.momentum
        self.query, self.key, self.value = query_key_value(
            width,
            (inner, inner, inner),
            (heads, heads, heads),
            config.convolution_size,
            rngs,
        )
        rates = heads * len(self.network.matrices())
        gain = 1 / math.sqrt(width)
        self.learning_rate = projection(
            width, rates, rngs, bias=True, gain=gain, per_memory=True
        )
        assert self.learning_rate.bias is not None
        start = math.log(math.expm1(config.initial_learning_rate))
        self.learning_rate.bias[...] = jnp.full((rates,), start, jnp.float32)
        momentum = None
        if config.momentum:
            momentum = projection(
                width, heads, rngs, bias=True, gain=gain, per_memory=True
            )
        self.momentum = momentum
        self.make_initial(heads, rngs, scale=1.0)
        self.read_out = ReadOut(
            inner,
            width,
            rngs,
            depth=depth,
            norm=RMSNorm(size, config.norm_epsilon),
            gate=projection(width, inner, rngs) if config.output_gate else None,
        )

    def inputs(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        (q, k, v), tails = self.streams(x, state.tails, layout)
        rate = jax.nn.softplus(self.learning_rate(x).astype(jnp.float32))
        rate = rearrange(rate, "b t (h r) -> b t h r", h=self.config.num_heads)
        momentum = None
        if self.momentum is not None:
            momentum = jax.nn.sigmoid(self.momentum(x).astype(jnp.float32))
        gates = Gates(rate, momentum=momentum)
        tokens = NeuralTokens(l2_normalise(q), l2_normalise(k), v, gates)
        return MemoryInputs(tokens), tails
