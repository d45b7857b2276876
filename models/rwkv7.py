"""RWKV-7: a memory that erases with a rate per channel, between shifted tokens."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .associative_memory import AssociativeState, MatrixMemory
from .channel_gates import LowRank
from .interface import Layout
from .layer_checks import check_chunk_size, check_positive, resolve_head_size
from .layer_config import Family, RegisteredConfig
from .memory_inputs import MemoryInputs
from .ops.low_rank import LOW_RANK, LowRankTokens
from .ops.normalisation import l2_normalise
from .ops.short_convolution import previous_token
from .projection import GroupNorm, projection, split_heads
from .read_out import ReadOut
from .regression import Regression

FASTEST = math.exp(-0.5)
"""Magnitude of the largest log decay of a token: a channel keeps at least 0.545."""


@dataclass(frozen=True, kw_only=True)
class RWKV7Config(RegisteredConfig):
    """Time mixing of RWKV-7 (Peng et al. 2025, arXiv:2503.14456).

    Each map reads a mix of the token and the one before it, x_t + m (x_(t-1) - x_t),
    where m is learned for each map. Per head, with unit(u) = u / |u|:

        r_t, k_t, v_t = W_r x_t, W_k x_t, W_v x_t
        alpha_t = exp(-exp(-1/2) sigmoid(lora_w(x_t)))
        a_t = sigmoid(lora_a(x_t)),  g_t = lora_g(x_t)
        kappa_t = unit(k_t * removal_scale)
        k'_t = k_t * (1 + (a_t - 1) * write_scale)
        S_t = diag(alpha_t) S_(t-1) - (a_t * kappa_t) (S_(t-1)^T kappa_t)^T + k'_t v_t^T
        o_t = norm(S_t^T r_t) + (r_t . (bonus * k'_t)) v_t
        y_t = W_o (o_t * g_t)

    The memory is read at kappa_t before it decays. The norm is a group norm with one
    group per head. The transition can have eigenvalues below 0, where a_t is near 1.

    Differs from it in: values have no residual from the first layer's values, because a
    layer sees only its input. Projections and the first factors of the low-rank maps
    begin random: those of keys are a tenth as large, as published, and W_o is scaled by
    depth in place of zero. `negative_eigenvalues` is an addition.
    """

    family: ClassVar[Family] = "delta rule"
    regression: ClassVar[Regression | None] = Regression(
        "channel_decay", "linear", "online"
    )

    num_heads: int = 4
    head_size: int | None = None
    """Size of each head's queries, keys and values; None: width / num_heads."""
    output_gate: bool = True
    """Multiply the read by g_t."""
    decay_rank: int | None = None
    """Rank of the map to decays; None: about 2.5 sqrt(width), in steps of 32."""
    rate_rank: int | None = None
    """Rank of the map to a_t; None: as for decays."""
    gate_rank: int | None = None
    """Rank of the map to g_t; None: about 5 sqrt(width), in steps of 32."""
    negative_eigenvalues: bool = False
    """Erase with rates a_t (1 + alpha_t) instead of a_t. Eigenvalues of the transition
    then reach from -1 to 1, and a reflection is possible where alpha_t is near 1."""
    norm_epsilon: float = 64e-5
    """Epsilon of the read's norm: added to the variance."""
    chunk_size: int | None = None
    """Tokens per chunk; affects speed only. None: chosen for the backend."""

    def __post_init__(self) -> None:
        check_chunk_size(self.chunk_size)
        check_positive("norm_epsilon", self.norm_epsilon)
        for name in ("decay_rank", "rate_rank", "gate_rank"):
            value = getattr(self, name)
            if value is not None:
                check_positive(name, value)

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "RWKV7":
        return RWKV7(self, width, rngs, layer_index, depth)


class ShiftTails(NamedTuple):
    """Last input of the layer."""

    x: Float[Array, "b 1 d"]


class RWKV7(MatrixMemory):
    """See `RWKV7Config`."""

    rule = LOW_RANK

    def __init__(
        self,
        config: RWKV7Config,
        width: int,
        rngs: nnx.Rngs,
        layer_index: int | Array,
        depth: int,
    ):
        heads = config.num_heads
        size = resolve_head_size(width, heads, config.head_size)
        inner = heads * size
        self.config = config
        self.width = width
        self.head_size = size
        self.query = projection(width, inner, rngs)
        self.key = projection(width, inner, rngs, gain=0.1)
        self.value = projection(width, inner, rngs)
        rank = config.decay_rank or _rank(2.5, width)
        self.decay = LowRank(
            width, rank, inner, rngs, bias=True, activation=jnp.tanh, gain=0.1
        )
        rank = config.rate_rank or _rank(2.5, width)
        self.write_strength = LowRank(width, rank, inner, rngs, bias=True, gain=0.1)
        gate = None
        if config.output_gate:
            rank = config.gate_rank or _rank(5.0, width)
            gate = LowRank(width, rank, inner, rngs, activation=jax.nn.sigmoid)
        norm = GroupNorm(
            inner,
            num_groups=heads,
            epsilon=config.norm_epsilon,
            use_fast_variance=False,
            rngs=rngs,
        )
        self.read_out = ReadOut(
            inner,
            width,
            rngs,
            depth=depth,
            norm=norm,
            norm_per_head=False,
            gate=gate,
            activation="identity",
        )
        self._set_initial(layer_index, depth, gate is not None)

    def _set_initial(self, layer_index: int | Array, depth: int, gated: bool) -> None:
        """Set the published initial values of mixing weights, biases and scales."""
        inner = self.config.num_heads * self.head_size
        index = jnp.asarray(layer_index, jnp.float32)
        channel = jnp.arange(self.width, dtype=jnp.float32) / self.width
        # Mixing weights of query, decay, key, value, rate, and gate.
        power = jnp.asarray([0.2, 0.9, 0.7, 0.7, 0.9, 0.2][: 5 + gated])[:, None]
        power = power * (1 - index / depth)
        self.token_shift = nnx.Param(1 - channel[None, :] ** power)
        place = jnp.arange(inner, dtype=jnp.float32)
        line = place / max(inner - 1, 1)
        middle = (self.head_size - 1) / 2
        zigzag = (place % self.head_size - middle) / max(middle, 0.5)
        zigzag = zigzag * jnp.abs(zigzag)
        curve = 1 + (index / max(depth - 1, 1)) ** 0.3
        for gate, bias in (
            (self.decay, -5.5 + 6 * line**curve + 2.5 * zigzag),
            (self.write_strength, -0.19 + 0.3 * zigzag + 0.4 * (line - 0.5)),
        ):
            gate.up.bias = nnx.Param(bias)
        self.removal_scale = nnx.Param(0.71 - 0.1 * (line - 0.5))
        self.write_scale = nnx.Param(jnp.full((inner,), 1.02, jnp.float32))
        self.bonus = nnx.Param(jnp.full((inner,), -0.04, jnp.float32))
        scale = jnp.full((inner,), ((index + 1) / depth) ** 0.7, jnp.float32)
        self.read_out.norm.scale = nnx.Param(scale)  # type: ignore[union-attr]

    def init_memory(self, batch_size: int) -> Float[Array, "b h k v"]:
        shape = (batch_size, self.config.num_heads, self.head_size, self.head_size)
        return jnp.zeros(shape, jnp.float32)

    def init_tails(self, batch_size: int) -> ShiftTails:
        return ShiftTails(jnp.zeros((batch_size, 1, self.width), jnp.float32))

    def inputs(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[MemoryInputs, ShiftTails]:
        (tail,) = state.tails
        previous, tail = previous_token(
            x, tail, reset=layout.reset, length=layout.length
        )
        weights = self.token_shift[...].astype(x.dtype)
        mixed = [x + (previous - x) * weight[None, None, :] for weight in weights]
        q, k, v = self.query(mixed[0]), self.key(mixed[2]), self.value(mixed[3])
        log_decay = jax.nn.sigmoid(self.decay(mixed[1]).astype(jnp.float32))
        rate = jax.nn.sigmoid(self.write_strength(mixed[4]).astype(jnp.float32))
        removal = l2_normalise(self._heads(k * self._scale(self.removal_scale)))
        k = k * (1 + (rate - 1) * self._scale(self.write_scale))
        log_decay = -FASTEST * log_decay
        if self.config.negative_eigenvalues:
            rate = rate * (1 + jnp.exp(log_decay))
        weighted = self._heads(q * k * self._scale(self.bonus))
        q, k, v, rate = map(self._heads, (q, k.astype(x.dtype), v, rate))
        bonus = jnp.sum(weighted, axis=-1, keepdims=True) * v
        tokens = LowRankTokens(
            query=q,
            key=k,
            value=v,
            read_key=-removal.astype(x.dtype),
            write_key=(removal * rate).astype(x.dtype),
            log_decay=self._heads(log_decay),
        )
        after = (bonus.astype(x.dtype), mixed[-1])
        return MemoryInputs(tokens, after=after), ShiftTails(tail)

    def finish(
        self,
        read: Float[Array, "b t h v"],
        inputs: MemoryInputs,
        x: Float[Array, "b t d"],
    ) -> Float[Array, "b t d"]:
        assert inputs.after is not None
        bonus, mixed = inputs.after
        return self.read_out(read.astype(x.dtype), mixed, bonus)

    def why_not_several(self) -> str:
        return (
            "adds a bonus to its normed read, which a mixture of reads cannot; choose "
            "another layer, such as kda"
        )

    def _heads(self, x: Float[Array, "b t e"]) -> Float[Array, "b t h k"]:
        return split_heads(x, self.config.num_heads)

    @staticmethod
    def _scale(scale: nnx.Param) -> Float[Array, "1 1 e"]:
        return scale[...][None, None, :]


def _rank(factor: float, width: int) -> int:
    """Return the published rank of a low-rank map: a multiple of 32."""
    return max(32, round(factor * math.sqrt(width) / 32) * 32)
