"""TTT layers: the hidden state is a model, trained on the sequence in mini-batches."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .associative_memory import AssociativeState
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
from .neural_memory_layer import NeuralMemoryLayer
from .ops.memory_network import MemoryNetwork, SlowWeights
from .ops.neural_memory import NeuralTokens
from .ops.rotary import rotary
from .ops.write_rule import WriteRule
from .ops.write_schedule import Gates
from .projection import projection
from .read_out import ReadOut
from .regression import Regression
from .streams import Stream, Tails


@dataclass(frozen=True, kw_only=True)
class TTTConfig(RegisteredConfig):
    """Fields that TTT-Linear and TTT-MLP share."""

    family: ClassVar[Family] = "neural memory"
    regression: ClassVar[Regression | None] = Regression("uniform", "linear", "online")
    small: ClassVar[Mapping[str, Any]] = {"update_every": 4}

    num_heads: int = 4
    head_size: int | None = None
    """Size of each head's queries, keys and values; None: width / num_heads."""
    backbone: Literal["mamba", "transformer"] = "mamba"
    """mamba: queries and keys share a projection, with a short convolution each and a
    gate; transformer: three projections, no convolution, no gate."""
    convolution_size: int = 4
    """Taps of the short convolutions on queries and keys; 0: none."""
    update_every: int = 16
    """Tokens per mini-batch; changes the result."""
    base_learning_rate: float = 1.0
    """Largest inner learning rate, before division by the head size."""
    rotary_base: float = 10000.0
    """Base of the rotary positions within a mini-batch."""
    norm_epsilon: float = 1e-6
    """Epsilon of the read's norm: added to the variance."""
    chunk_size: int | None = None
    """Tokens computed together; affects speed only. None: chosen for the backend."""

    def __post_init__(self) -> None:
        check_convolution(self.convolution_size)
        check_chunk_size(self.chunk_size)
        check_positive("norm_epsilon", self.norm_epsilon)
        check_positive("num_heads", self.num_heads)
        check_positive("update_every", self.update_every)
        check_positive("base_learning_rate", self.base_learning_rate)
        check_rotary_base(self.rotary_base)


@dataclass(frozen=True, kw_only=True)
class TTTLinearConfig(TTTConfig):
    """TTT-Linear (Sun et al. 2024, arXiv:2407.04620), as its authors compute it.

    Per head, with f(x) = x + norm(x W + b), the norm's scale and bias learned, and
    W', b' the memory before the mini-batch of t:

        u_t = grad 1/2 ||f(k_t) - v_t||^2 at W', b'
        W_t = W' - r_i sum_s eta_s u_s over the mini-batch up to t, its i-th token
        eta_s = base_learning_rate sigmoid(w . x_s) / head size, r_i = max(1/i + c_i, 0)
        y_t = W_o (norm(f(q_t)) * gelu(W_g x_t))

    with c learned, rotary positions within the mini-batch and a norm over all heads.

    Differs from it in: the equations are those of the published JAX code, which scales
    a step by the place in the mini-batch, divides it by the head size and has no factor
    2; rotary pairs halves of the channels, where the code pairs neighbours (a
    permutation).
    """

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "TTT":
        del layer_index
        return TTT(self, width, rngs, depth, memory_depth=1)


class TTT(NeuralMemoryLayer):
    """See `TTTLinearConfig` and `TTTMLPConfig`."""

    has_momentum = False

    def __init__(
        self,
        config: TTTConfig,
        width: int,
        rngs: nnx.Rngs,
        depth: int,
        *,
        memory_depth: int,
    ):
        size = resolve_head_size(width, config.num_heads, config.head_size)
        check_even("head_size", size, "rotary positions rotate pairs")
        heads, inner = config.num_heads, config.num_heads * size
        mamba = config.backbone == "mamba"
        taps = config.convolution_size if mamba else 0
        self.config = config
        self.head_size = size
        self.network = MemoryNetwork(
            depth=memory_depth,
            key_size=size,
            value_size=size,
            hidden_size=4 * size,
            norm="slow",
            bias=True,
        )
        self.write_rule = WriteRule(
            update_every=config.update_every, schedule="window", loss="half"
        )
        self.query = Stream(width, inner, heads, rngs)
        self.key = Stream(None if mamba else width, inner, heads, rngs)
        self.value = Stream(width, inner, heads, rngs)
        if taps:
            self.query.add_convolution(taps, rngs, bias=True)
            self.key.add_convolution(taps, rngs, bias=True)
        self.learning_rate = projection(width, heads, rngs, bias=True)
        self.step_scale = nnx.Param(jnp.zeros((config.update_every,), jnp.float32))
        self.make_initial(heads, rngs, scale=1.0)
        for name in self.network.matrices():
            weight = self.initial[name]
            noise = jax.random.normal(rngs.params(), weight[...].shape, jnp.float32)
            weight[...] = 0.02 * noise
        self.memory_norm = nnx.Dict(
            norm=nnx.Param(jnp.ones((heads, size), jnp.float32)),
            norm_bias=nnx.Param(jnp.zeros((heads, size), jnp.float32)),
        )
        self.read_out = ReadOut(
            inner,
            width,
            rngs,
            depth=depth,
            norm=nnx.LayerNorm(inner, epsilon=config.norm_epsilon, rngs=rngs),
            norm_per_head=False,
            gate=projection(width, inner, rngs) if mamba else None,
            activation="gelu",
        )

    def slow_weights(self) -> SlowWeights:
        return {name: weight[...] for name, weight in self.memory_norm.items()}

    def inputs(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        (q, k, v), tails = self.streams(x, state.tails, layout)
        place, _ = layout.positions(state.position, x.shape[1])
        place = place % self.config.update_every
        q, k = (rotary(a, place, base=self.config.rotary_base) for a in (q, k))
        rate = jax.nn.sigmoid(self.learning_rate(x).astype(jnp.float32))
        rate = rate * (self.config.base_learning_rate / self.head_size)
        scale = 1 / (1 + jnp.arange(self.config.update_every, dtype=jnp.float32))
        scale = jnp.maximum(scale + self.step_scale[...], 0.0)[place]
        gates = Gates(rate, step_scale=jnp.broadcast_to(scale[..., None], rate.shape))
        return MemoryInputs(NeuralTokens(q, k, v - k, gates), skip=q), tails
