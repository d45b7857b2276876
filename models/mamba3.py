"""Mamba-3: a decaying memory with the trapezoid rule and rotated keys."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat
from flax import nnx
from jaxtyping import Array, Bool, Float

from memzoo.errors import InputError

from .associative_memory import AssociativeState, MatrixMemory
from .decay_init import init_time_bias
from .interface import Layout
from .layer_checks import check_chunk_size, check_positive
from .layer_config import Family, RegisteredConfig
from .memory_inputs import MemoryInputs
from .ops.cumulative_rotation import cumulative_turns, rotate_pairs
from .ops.scalar_decay import SCALAR_DECAY, ScalarDecayTokens
from .ops.short_convolution import previous_token
from .projection import RMSNorm, merge_heads, projection
from .read_out import ReadOut
from .regression import Regression


@dataclass(frozen=True, kw_only=True)
class Mamba3Config(RegisteredConfig):
    """Mamba-3 (Lahoti et al. 2026, arXiv:2603.15569).

    Per head, with R(theta) a rotation of pairs of neighbouring channels by the angles
    theta, and f(x) = 1 + x for x >= 0, else 1 / (1 - x):

        dt_t = softplus(W_dt u_t + time_bias),  A_t = -max(f(W_A u_t), least_rate)
        a_t = exp(dt_t A_t),  l_t = sigmoid(W_l u_t)
        theta_t = theta_(t-1) + pi dt_t tanh(W_theta u_t)   modulo 2 pi
        q_t = R(theta_t) (norm(W_C u_t) + b_C),  k_t = R(theta_t) (norm(W_B u_t) + b_B)
        S_t = a_t S_(t-1) + (1 - l_t) dt_t a_t k_(t-1) v_(t-1)^T + l_t dt_t k_t v_t^T
        o_t = S_t^T q_t + D v_t
        y_t = W_o (o_t * silu(W_z u_t))

    With `rank` R > 1 (MIMO), every token has R queries, keys, values and gates; the
    values and gates are one map times R learned vectors, S_t adds the R products, and
    the R gated reads are weighted by learned vectors and added.

    Differs from it in: projections are separate maps, where the published code has one;
    rotated pairs are neighbours for every rank; the optional norm of the read is left
    out.
    """

    family: ClassVar[Family] = "scalar decay"
    regression: ClassVar[Regression | None] = Regression(
        "scalar_decay", "linear", "one_step"
    )
    small: ClassVar[Mapping[str, Any]] = {"head_size": 16, "state_size": 8}

    expand: int = 2
    """Ratio of inner width to width."""
    head_size: int = 64
    """Size of each head's values."""
    state_size: int = 128
    """Size of queries and keys."""
    num_groups: int = 1
    """Number of groups of heads that share queries and keys."""
    rank: int = 1
    """Queries, keys and values of a token: 1, or more for MIMO (published: 4)."""
    rotary_fraction: float = 0.5
    """Share of the channels of queries and keys that is rotated, above 0 to 1."""
    output_gate: bool = True
    """Multiply the read by silu(W_z u)."""
    initial_time: tuple[float, float] = (1e-3, 0.1)
    """Initial dt is log-uniform between these. A token turns a pair by pi dt at most:
    choose about 1 for tasks that need half turns, such as parity."""
    least_rate: float = 1e-4
    """Smallest -A."""
    norm_epsilon: float = 1e-5
    """Epsilon of the norms of queries and keys: added to the mean square."""
    chunk_size: int | None = None
    """Tokens per chunk; affects speed only. None: chosen for the backend."""

    def __post_init__(self) -> None:
        check_chunk_size(self.chunk_size)
        names = ("expand", "head_size", "state_size", "num_groups", "rank")
        for name in (*names, "least_rate", "norm_epsilon"):
            check_positive(name, getattr(self, name))
        shortest, longest = self.initial_time
        if not 1e-4 <= shortest <= longest < math.inf:
            raise InputError(
                f"initial_time is {self.initial_time}; give two numbers, 1e-4 or more, "
                "the smaller one first"
            )
        if not 0 < self.rotary_fraction <= 1:
            raise InputError(
                f"rotary_fraction is {self.rotary_fraction}; give a number above 0, at "
                "most 1"
            )
        if self.num_angles < 1:
            raise InputError(
                f"rotary_fraction {self.rotary_fraction} of state_size "
                f"{self.state_size} holds no pair of channels; give more of either"
            )

    @property
    def num_angles(self) -> int:
        """Return the number of rotated pairs."""
        return int(self.state_size * self.rotary_fraction) // 2

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "Mamba3":
        del layer_index
        return Mamba3(self, width, rngs, depth)


class LastToken(NamedTuple):
    """Parts of the last token that the next one needs, float32; zeros at the start.

    Attributes:
        turns: rotation of its queries and keys, theta / 2 pi.
        key: its keys, rotated.
        value: its values.
        weight: share of the trapezoid's right end, l_t dt_t.
    """

    turns: Float[Array, "b 1 _"]
    key: Float[Array, "b 1 _"]
    value: Float[Array, "b 1 _"]
    weight: Float[Array, "b 1 h"]


class Mamba3(MatrixMemory):
    """See `Mamba3Config`.

    The memory is H_t = S_t - l_t dt_t k_t v_t^T, so that each key is written once:

        H_t = a_t H_(t-1) + a_t (l_(t-1) dt_(t-1) + (1 - l_t) dt_t) k_(t-1) v_(t-1)^T
        o_t = H_t^T q_t + l_t dt_t (k_t . q_t) v_t + D v_t
    """

    rule = SCALAR_DECAY

    def __init__(self, config: Mamba3Config, width: int, rngs: nnx.Rngs, depth: int):
        inner = config.expand * width
        if inner % config.head_size:
            raise InputError(
                f"head_size {config.head_size} does not divide the inner width "
                f"{inner} (expand {config.expand} x width {width}); choose a divisor"
            )
        heads = inner // config.head_size
        if heads % config.num_groups:
            raise InputError(
                f"num_groups {config.num_groups} does not divide the {heads} "
                "heads (expand x width / head_size); choose a divisor"
            )
        self.config = config
        self.num_heads = heads
        shared = config.rank * config.num_groups * config.state_size
        self.value = projection(width, inner, rngs)
        self.key = projection(width, shared, rngs)
        self.query = projection(width, shared, rngs)
        self.key_norm = RMSNorm(config.state_size, config.norm_epsilon)
        self.query_norm = RMSNorm(config.state_size, config.norm_epsilon)
        bias = jnp.ones((heads, config.rank, config.state_size), jnp.float32)
        self.key_bias, self.query_bias = nnx.Param(bias), nnx.Param(bias)
        self.time = projection(width, heads, rngs)
        shortest, longest = config.initial_time
        bias = init_time_bias(rngs, heads, shortest=shortest, longest=longest)
        self.time_bias = nnx.Param(bias)
        self.decay = projection(width, heads, rngs)
        self.trapezoid = projection(width, heads, rngs)
        self.angle = projection(width, config.num_angles, rngs)
        self.skip = nnx.Param(jnp.ones((heads,), jnp.float32))
        gate = projection(width, inner, rngs) if config.output_gate else None
        self.read_out = ReadOut(inner, width, rngs, depth=depth, gate=gate)
        if config.rank > 1:
            ones = jnp.ones((heads, config.rank, config.head_size), jnp.float32)
            self.mimo_value = nnx.Param(ones / config.rank)
            self.mimo_read = nnx.Param(ones / config.rank)
            if gate is not None:
                self.mimo_gate = nnx.Param(ones)

    def init_memory(self, batch_size: int) -> Float[Array, "b h k v"]:
        config = self.config
        shape = (batch_size, self.num_heads, config.state_size, config.head_size)
        return jnp.zeros(shape, jnp.float32)

    def init_tails(self, batch_size: int) -> LastToken:
        config = self.config
        each = (
            config.num_angles,
            config.rank * config.state_size,
            config.rank * config.head_size,
            1,
        )
        shapes = ((batch_size, 1, self.num_heads * size) for size in each)
        return LastToken(*(jnp.zeros(shape, jnp.float32) for shape in shapes))

    def inputs(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[MemoryInputs, LastToken]:
        tails, heads = LastToken(*state.tails), self.num_heads
        time = self.time(x).astype(jnp.float32) + self.time_bias[...][None, None, :]
        time = jax.nn.softplus(time)
        rate = _positive(self.decay(x).astype(jnp.float32))
        log_decay = -time * jnp.maximum(rate, self.config.least_rate)
        share = jax.nn.sigmoid(self.trapezoid(x).astype(jnp.float32))
        half_turns = jnp.tanh(self.angle(x).astype(jnp.float32))[:, :, None]
        turns = cumulative_turns(
            0.5 * time[..., None] * half_turns,
            rearrange(tails.turns, "b 1 (h f) -> b h f", h=heads),
            reset=layout.reset,
        )
        q = self._rotated(self.query(x), self.query_norm, self.query_bias, turns)
        k = self._rotated(self.key(x), self.key_norm, self.key_bias, turns)
        v = self._values(x)
        weight = share * time
        last, tails = self._shifted(LastToken(turns, k, v, weight), tails, layout)
        left = jnp.exp(log_decay) * (last.weight + (1 - share) * time)
        skip = _local(q, k, v, weight, np.ones(2 * (self.config.rank,), bool))
        skip = skip + self.skip[...][None, None, :, None, None] * v
        # A query reads when the keys of its rank and below are written.
        later = ~np.tri(self.config.rank, dtype=bool)
        skip = skip + _local(q, last.key, last.value, left, later)
        tokens = ScalarDecayTokens(
            query=_ranks_in_time(q).astype(x.dtype),
            key=_ranks_in_time(last.key).astype(x.dtype),
            value=_ranks_in_time(left[..., None, None] * last.value).astype(x.dtype),
            log_decay=self._first_of_ranks(log_decay),
        )
        return MemoryInputs(tokens, rearrange(skip, "b t h r v -> b t h (r v)")), tails

    def _rotated(
        self,
        projected: Float[Array, "b t _"],
        norm: RMSNorm,
        bias: nnx.Param,
        turns: Float[Array, "b t h f"],
    ) -> Float[Array, "b t h r k"]:
        """Return normed queries or keys with their bias, rotated, in float32."""
        config = self.config
        x = rearrange(
            projected.astype(jnp.float32),
            "b t (r g k) -> b t g r k",
            r=config.rank,
            g=config.num_groups,
        )
        each = self.num_heads // config.num_groups
        x = repeat(norm(x), "b t g r k -> b t (g e) r k", e=each)
        return rotate_pairs(x + bias[...][None, None], turns[..., None, :])

    def _values(self, x: Float[Array, "b t d"]) -> Float[Array, "b t h r v"]:
        """Return the values of every rank, in float32."""
        v = self.value(x).astype(jnp.float32)
        v = rearrange(v, "b t (h v) -> b t h 1 v", h=self.num_heads)
        return v * self.mimo_value[...][None, None] if self.config.rank > 1 else v

    def _shifted(
        self, parts: LastToken, tails: LastToken, layout: Layout
    ) -> tuple[LastToken, LastToken]:
        """Return the parts of the token before each token, and the new tails."""
        found = [
            previous_token(
                part.reshape(*part.shape[:2], tail.shape[-1]),
                tail,
                reset=layout.reset,
                length=layout.length,
            )
            for part, tail in zip(parts, tails, strict=True)
        ]
        before = (
            x.reshape(part.shape) for (x, _), part in zip(found, parts, strict=True)
        )
        return LastToken(*before), LastToken(*(tail for _, tail in found))

    def _first_of_ranks(self, x: Float[Array, "b t h"]) -> Float[Array, "b s h"]:
        """Return values for the first rank of every token, and zeros for the others."""
        rank = self.config.rank
        zeros = [jnp.zeros_like(x)] * (rank - 1)
        return rearrange(jnp.stack([x, *zeros], axis=2), "b t r h -> b (t r) h")

    def write_and_read(
        self,
        inputs: MemoryInputs,
        memory: Float[Array, "b h k v"],
        reset: Bool[Array, "b t"] | None,
    ) -> tuple[Float[Array, "b t h _"], Float[Array, "b h k v"]]:
        rank, valid = self.config.rank, inputs.valid
        if rank > 1 and reset is not None:
            first = jnp.arange(rank * reset.shape[1])[None, :] % rank == 0
            reset = jnp.logical_and(jnp.repeat(reset, rank, axis=1), first)
        if rank > 1 and valid is not None:
            valid = jnp.repeat(valid, rank, axis=1)
        inputs = inputs._replace(valid=valid)
        read, memory = super().write_and_read(inputs, memory, reset)
        return rearrange(read, "b (t r) h v -> b t h (r v)", r=rank), memory

    def write_and_read_token(
        self, inputs: MemoryInputs, memory: Float[Array, "b h k v"]
    ) -> tuple[Float[Array, "b 1 h _"], Float[Array, "b h k v"]]:
        read, memory = self.rule.recurrent(inputs.tokens, memory)
        return rearrange(read, "b r h v -> b 1 h (r v)"), memory

    def output(
        self, read: Float[Array, "b t h _"], x: Float[Array, "b t d"]
    ) -> Float[Array, "b t d"]:
        if self.config.rank == 1:
            return self.read_out(read, x)
        y = rearrange(read, "b t h (r v) -> b t h r v", r=self.config.rank)
        if self.read_out.gate is not None:
            z = rearrange(
                self.read_out.gate(x), "b t (h v) -> b t h 1 v", h=self.num_heads
            )
            y = y * jax.nn.silu(z * self.mimo_gate[...][None, None])
        y = jnp.sum(y * self.mimo_read[...][None, None], axis=3)
        return self.read_out.projection(merge_heads(y).astype(x.dtype))

    def why_not_several(self) -> str:
        return (
            "rotates its queries with its keys, which the memories of a mixture do not "
            "share; choose another layer, such as mamba2"
        )


def _positive(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Return 1 + x for x >= 0, else 1 / (1 - x): positive and smooth."""
    return jnp.maximum(x, 0) + 1 / (1 - jnp.minimum(x, 0))


def _ranks_in_time(x: Float[Array, "b t h r k"]) -> Float[Array, "b s h k"]:
    """Return the ranks of a token as tokens that follow one another."""
    return rearrange(x, "b t h r k -> b (t r) h k")


def _local(
    query: Float[Array, "b t h r k"],
    key: Float[Array, "b t h r k"],
    value: Float[Array, "b t h r v"],
    weight: Float[Array, "b t h"],
    mask: Bool[np.ndarray, "r s"],
) -> Float[Array, "b t h r v"]:
    """Return what each query reads of one token's keys, where the mask is true."""
    if not mask.any():
        return jnp.zeros_like(value)
    scores = jnp.einsum("bthrk,bthsk->bthrs", query, key, precision="highest")
    scores = jnp.where(mask, scores, 0) * weight[..., None, None]
    return jnp.einsum("bthrs,bthsv->bthrv", scores, value, precision="highest")
