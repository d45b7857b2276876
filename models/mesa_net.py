"""MesaNet: the memory is the least-squares fit of values to keys."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .associative_memory import AssociativeState, MatrixMemory
from .interface import Layout
from .layer_checks import (
    check_choice,
    check_chunk_size,
    check_convolution,
    check_positive,
    resolve_head_size,
)
from .layer_config import Family, RegisteredConfig
from .memory_inputs import MemoryInputs
from .ops.mesa import MesaMemory, MesaTokens, mesa
from .ops.normalisation import l2_normalise
from .ops.recurrence import Recurrence
from .projection import RMSNorm, projection
from .read_out import ReadOut
from .regression import Regression
from .ridge import Ridge, check_ridge
from .streams import Tails, query_key_value

RidgeKind = Literal["learned", "frobenius"]
MesaSolver = Literal["conjugate_gradients", "exact"]


@dataclass(frozen=True, kw_only=True)
class MesaNetConfig(RegisteredConfig):
    """MesaNet (von Oswald et al. 2025, arXiv:2506.05233).

    Per head, with keys and queries of length 1, gamma_t = sigmoid(w_a . x_t + b_a),
    beta_t = sigmoid(w_b . x_t + b_b) and a learned diagonal Lambda:

        H_t = gamma_t H_(t-1) + beta_t k_t k_t^T
        S_t = gamma_t S_(t-1) + beta_t k_t v_t^T
        o_t = S_t^T (H_t + Lambda)^-1 q_t
        y_t = W_o norm(o_t)

    Two options come from Gated KalmaNet (arXiv:2511.21016). The `frobenius` ridge is
    Lambda_t = 0.02 |H_t|_F. With `mixing_gate` and a_t = sigmoid(w_m . x_t), the read
    is S_t^T (q_t + a_t ((H_t + Lambda)^-1 q_t - q_t)).

    Differs from it in: conjugate gradients start at zero and stop when the residual is
    a rounding error, also token by token (public code starts decoding at
    q / (diag H + Lambda) and adds 1e-5 to every quotient); the decay begins at 0.95 and
    not at 0.5; Gated KalmaNet solves by Chebyshev iterations.
    """

    family: ClassVar[Family] = "least squares"
    regression: ClassVar[Regression | None] = Regression(
        "scalar_decay", "linear", "conjugate_gradients"
    )

    num_heads: int = 4
    head_size: int | None = None
    """Size of each head's queries, keys and values; None: width / num_heads."""
    convolution_size: int = 4
    """Taps of the short convolutions on queries and keys; 0: none."""
    output_gate: bool = False
    """Multiply the read by silu(W_g x)."""
    decay_bias: float = 3.0
    """Initial bias b_a of the decay's sigmoid."""
    ridge: RidgeKind = "learned"
    """learned: one number per head and channel; frobenius: a multiple of |H|_F."""
    ridge_floor: float = 0.25
    """Lower bound of a learned ridge."""
    initial_ridge: float = 1.0
    """Initial value of a learned ridge."""
    frobenius_ratio: float = 0.02
    """Multiple of |H|_F in a frobenius ridge."""
    mixing_gate: bool = False
    """Mix the solution with the query by a gate per head."""
    solver: MesaSolver = "conjugate_gradients"
    """exact: a Cholesky factor for every token, which holds all H_t of a chunk."""
    solver_steps: int = 30
    """Largest number of conjugate gradient steps."""
    norm_epsilon: float = 1e-5
    """Epsilon of the read's norm: added to the mean square."""
    chunk_size: int | None = None
    """Tokens per chunk; affects speed only. None: chosen for the backend."""

    def __post_init__(self) -> None:
        check_convolution(self.convolution_size)
        check_chunk_size(self.chunk_size)
        check_ridge(self.ridge_floor, self.initial_ridge)
        for name in ("norm_epsilon", "frobenius_ratio", "solver_steps"):
            check_positive(name, getattr(self, name))
        check_choice("ridge", self.ridge, get_args(RidgeKind))
        check_choice("solver", self.solver, get_args(MesaSolver))

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "MesaNet":
        del layer_index
        return MesaNet(self, width, rngs, depth)


class MesaNet(MatrixMemory):
    """See `MesaNetConfig`."""

    def __init__(self, config: MesaNetConfig, width: int, rngs: nnx.Rngs, depth: int):
        heads = config.num_heads
        size = resolve_head_size(width, heads, config.head_size)
        self.config = config
        self.head_size = size
        inner = heads * size
        self.query, self.key, self.value = query_key_value(
            width,
            (inner, inner, inner),
            (heads, heads, heads),
            config.convolution_size,
            rngs,
        )
        # As published, values are neither convolved nor activated.
        self.value.convolution, self.value.activation = None, False
        self.decay = projection(width, heads, rngs, bias=True, per_memory=True)
        self.write_strength = projection(width, heads, rngs, bias=True, per_memory=True)
        assert self.decay.bias is not None
        self.decay.bias[...] += config.decay_bias
        self.mix = projection(width, heads, rngs) if config.mixing_gate else None
        self.ridge: Ridge | None = nnx.data(None)
        if config.ridge == "learned":
            self.ridge = Ridge(
                (heads, size), floor=config.ridge_floor, initial=config.initial_ridge
            )
        self.read_out = ReadOut(
            inner,
            width,
            rngs,
            depth=depth,
            norm=RMSNorm(size, config.norm_epsilon),
            gate=projection(width, inner, rngs) if config.output_gate else None,
        )

    @property
    def rule(self) -> Recurrence[Any, Any]:  # type: ignore[override]
        config = self.config
        relative = config.frobenius_ratio if config.ridge == "frobenius" else 0.0
        return mesa(
            solver=config.solver, steps=config.solver_steps, relative_ridge=relative
        )

    def init_memory(self, batch_size: int) -> MesaMemory:
        shape = (batch_size, self.config.num_heads, self.head_size, self.head_size)
        return MesaMemory(jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.float32))

    def inputs(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        (q, k, v), tails = self.streams(x, state.tails, layout)
        strength = jax.nn.sigmoid(self.write_strength(x).astype(jnp.float32))
        log_decay = jax.nn.log_sigmoid(self.decay(x).astype(jnp.float32))
        mix = None
        if self.mix is not None:
            mix = jax.nn.sigmoid(self.mix(x).astype(jnp.float32))
        q, k = l2_normalise(q), l2_normalise(k)
        ridge = self._ridge(q)
        return MemoryInputs(MesaTokens(q, k, v, ridge, strength, log_decay, mix)), tails

    def read(
        self, query: Float[Array, "b t h k"], memory: MesaMemory
    ) -> Float[Array, "b t h v"]:
        """Read without writing, and without the mixing gate."""
        nothing = jnp.zeros((*query.shape[:3], self.head_size), query.dtype)
        gates = jnp.zeros(query.shape[:3], jnp.float32)
        tokens = MesaTokens(query, query, nothing, self._ridge(query), gates)
        return self.rule.chunkwise(tokens, memory, chunk_size=self._chunk_size())[0]

    def _ridge(self, query: Float[Array, "b t h k"]) -> Float[Array, "b t h k"]:
        """Return the part of the ridge that does not depend on the memory."""
        if self.ridge is None:
            return jnp.zeros(query.shape, jnp.float32)
        return jnp.broadcast_to(self.ridge()[None, None], query.shape)
