"""Test-time regression: weights, regressor and solver chosen by the user."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from memzoo.errors import InputError

from .associative_memory import AssociativeState, MatrixMemory
from .attention import AttentionConfig
from .channel_gates import ChannelDecay
from .head_decay import HeadDecay
from .interface import Layout, MemoryLayer
from .layer_checks import (
    check_choice,
    check_chunk_size,
    check_convolution,
    check_positive,
    resolve_head_size,
)
from .layer_config import Family, RegisteredConfig
from .local_linear_attention import LocalLinearAttentionConfig
from .memory_inputs import MemoryInputs
from .ops import feature_maps
from .ops.delta_product import DELTA_PRODUCT, DeltaProductTokens
from .ops.delta_rule import DELTA_RULE, DeltaTokens
from .ops.erase_write import ERASE_WRITE, EraseWriteTokens
from .ops.mesa import MesaMemory, MesaTokens, mesa
from .ops.normalisation import l2_normalise
from .ops.recurrence import Recurrence
from .ops.scalar_decay import SCALAR_DECAY, ScalarDecayTokens
from .ops.vector_decay import VECTOR_DECAY, VectorDecayTokens
from .projection import RMSNorm, projection
from .read_out import ReadOut
from .regression import Regression, Regressor, Solver, Weights
from .streams import Tails, query_key_value
from .titans_lmm import TitansLMMConfig

_OPERATIONS: dict[str, Recurrence[Any, Any]] = {
    "scalar_decay": SCALAR_DECAY,
    "vector_decay": VECTOR_DECAY,
    "delta_rule": DELTA_RULE,
    "erase_write": ERASE_WRITE,
    "delta_product": DELTA_PRODUCT,
}
_MOST_FEATURES = 1 << 16


def why_refused(weights: str, regressor: str, solver: str) -> str | None:
    """Return why no layer computes this combination, and a remedy; None: one does."""
    closed = solver in ("exact", "conjugate_gradients")
    if weights == "kernel":
        if not closed:
            return (
                "kernel weights differ for every query, so no memory can be updated "
                "token by token; choose the solver exact"
            )
        if regressor not in ("constant", "linear"):
            return (
                f"kernel weights need one fit per query, which costs too much for "
                f"{_A[regressor]}; choose the regressor constant or linear"
            )
        if solver != "exact":
            return (
                "kernel weights give each query a small system, which a factor "
                "solves; choose the solver exact"
            )
        return None
    if weights == "channel_decay":
        if closed:
            return (
                "decays by channel do not weight tokens, so there are no least "
                "squares to solve; choose the weights scalar_decay"
            )
        if solver == "several_steps":
            return (
                "the operation of several steps has one decay per head; choose the "
                "weights scalar_decay"
            )
        if regressor != "linear":
            return (
                f"decays by channel need the channels of a key, which {_A[regressor]} "
                "does not have; choose the regressor linear"
            )
    if regressor == "mlp" and solver != "online":
        return _NOT_FOR_NETWORKS[solver]
    return None


_A = {
    "constant": "a constant",
    "linear": "a linear map",
    "polynomial": "a polynomial",
    "mlp": "a network",
}
_NOT_FOR_NETWORKS = {
    "one_step": (
        "a network whose weights are all zero has no gradient to step along; choose "
        "the solver online"
    ),
    "several_steps": (
        "the engine of networks takes one step per token; choose the solver online"
    ),
    "implicit": (
        "the implicit step of a network has no closed form; choose the solver online"
    ),
    "exact": "the best network has no closed form; choose the solver online",
    "conjugate_gradients": (
        "conjugate gradients need a linear system, which a network does not give; "
        "choose the solver online"
    ),
}


@dataclass(frozen=True, kw_only=True)
class TestTimeRegressionConfig(RegisteredConfig):
    """Test-time regression (Wang, Shi and Fox 2025, arXiv:2501.12352).

    Per head, with keys and queries of length 1 (of any length for implicit steps):

        m_t = argmin_m sum_(s <= t) w_s(t) |v_s - m(k_s)|^2 / 2
        y_t = W_o (norm(m_t(q_t)) * silu(W_g x_t))

    Three fields choose the weights w, the class of functions m and the solver. The
    page of this layer shows which combinations work, and the operation of each.

    Differs from it in: the choices that the paper leaves open, which are those of
    gated_delta_net: keys, queries and values by short convolutions, decays and step
    sizes by learned maps of the input.
    """

    # pytest takes classes whose names begin with Test for tests.
    __test__: ClassVar[bool] = False
    family: ClassVar[Family] = "regression"
    regression: ClassVar[Regression | None] = Regression(
        "scalar_decay", "linear", "online"
    )

    weights: Weights = "scalar_decay"
    """uniform: all tokens count the same; scalar_decay, channel_decay: earlier tokens
    count less, by learned decays; kernel: tokens with keys near the query count
    more."""
    regressor: Regressor = "linear"
    """Class of functions. polynomial: all monomials of the key up to `degree`."""
    solver: Solver = "online"
    """one_step: a gradient step from zero over all tokens; online: a gradient step per
    token; several_steps: `steps` of them, with separate keys and values; implicit: a
    proximal step per token; exact, conjugate_gradients: ridge regression."""
    degree: int = 2
    """Degree of a polynomial."""
    steps: int = 2
    """Steps per token of several_steps."""
    ridge: float = 0.1
    """Penalty of ridge regression."""
    num_heads: int = 4
    head_size: int | None = None
    """Size of each head's queries, keys and values; None: width / num_heads."""
    convolution_size: int = 4
    """Taps of the short convolutions on queries, keys and values; 0: none."""
    output_gate: bool = True
    """Multiply the read by silu(W_g x)."""
    fastest_decay: float = 1.0
    """Largest initial rate of the decays."""
    update_every: int = 16
    """Tokens per window of an MLP, whose gradients use the same weights."""
    norm_epsilon: float = 1e-5
    """Epsilon of the read's norm: added to the mean square."""
    chunk_size: int | None = None
    """Tokens per chunk; affects speed only. None: chosen for the backend."""

    def __post_init__(self) -> None:
        check_choice("weights", self.weights, get_args(Weights))
        check_choice("regressor", self.regressor, get_args(Regressor))
        check_choice("solver", self.solver, get_args(Solver))
        check_convolution(self.convolution_size)
        check_chunk_size(self.chunk_size)
        for name in ("degree", "steps", "ridge", "num_heads", "update_every"):
            check_positive(name, getattr(self, name))
        check_positive("norm_epsilon", self.norm_epsilon)
        check_positive("fastest_decay", self.fastest_decay)
        reason = why_refused(self.weights, self.regressor, self.solver)
        if reason is not None:
            raise InputError(
                f"{self.weights}, {self.regressor}, {self.solver}: {reason}"
            )

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> MemoryLayer[Any]:
        layer = self.named_layer()
        if layer is not None:
            return layer.build(width, rngs, layer_index=layer_index, depth=depth)
        return FeatureRegression(self, width, rngs, depth)

    def named_layer(self) -> RegisteredConfig | None:
        """Return the config of another layer that computes this, if one does."""
        shared = {
            name: getattr(self, name)
            for name in ("num_heads", "head_size", "convolution_size", "output_gate")
        }
        if self.weights == "kernel":
            attention = {"normalise_query_key": True, "rotary_base": None}
            if self.regressor == "linear":
                return LocalLinearAttentionConfig(**shared, **attention)
            return AttentionConfig(**shared, **attention)
        if self.regressor == "mlp":
            return TitansLMMConfig(
                **shared,
                momentum=False,
                forget=self.weights == "scalar_decay",
                loss="half",
                update_every=self.update_every,
                persistent_tokens=0,
                norm_epsilon=self.norm_epsilon,
                chunk_size=self.chunk_size,
            )
        return None

    def engine(self) -> str:
        """Return the name of the layer or operation that computes this."""
        if self.weights == "kernel":
            linear = self.regressor == "linear"
            return "local_linear_attention" if linear else "attention"
        if self.regressor == "mlp":
            return "titans_lmm"
        if self.solver in ("exact", "conjugate_gradients"):
            return "mesa"
        if self.solver == "several_steps":
            return "delta_product"
        channels = self.weights == "channel_decay"
        if self.solver == "one_step":
            return "vector_decay" if channels else "scalar_decay"
        return "erase_write" if channels else "delta_rule"


class FeatureRegression(MatrixMemory):
    """Regression on features of the key; see `TestTimeRegressionConfig`."""

    def __init__(
        self,
        config: TestTimeRegressionConfig,
        width: int,
        rngs: nnx.Rngs,
        depth: int,
    ):
        heads = config.num_heads
        size = resolve_head_size(width, heads, config.head_size)
        inner = heads * size
        writes = config.steps if config.solver == "several_steps" else 1
        self.config = config
        self.head_size = size
        self.num_features = _num_features(config, size)
        self.query, self.key, self.value = query_key_value(
            width,
            (inner, inner * writes, inner * writes),
            (heads, heads * writes, heads * writes),
            config.convolution_size,
            rngs,
        )
        self.step_size: nnx.Linear | None = nnx.data(None)
        if config.solver in ("online", "several_steps", "implicit"):
            self.step_size = projection(width, heads * writes, rngs, per_memory=True)
        self.decay: HeadDecay | ChannelDecay | None = nnx.data(None)
        if config.weights == "scalar_decay":
            self.decay = HeadDecay(width, heads, rngs, fastest=config.fastest_decay)
        elif config.weights == "channel_decay":
            self.decay = ChannelDecay(
                width, size, heads, size, rngs, fastest=config.fastest_decay
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
        """Operation that the solver and the weights need."""
        name = self.config.engine()
        if name == "mesa":
            exact = self.config.solver == "exact"
            return mesa(solver="exact" if exact else "conjugate_gradients")
        return _OPERATIONS[name]

    def init_memory(self, batch_size: int) -> Float[Array, "b h k v"] | MesaMemory:
        rows = (batch_size, self.config.num_heads, self.num_features)
        memory = jnp.zeros((*rows, self.head_size), jnp.float32)
        if self.config.engine() != "mesa":
            return memory
        return MesaMemory(jnp.zeros((*rows, self.num_features), jnp.float32), memory)

    def inputs(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        (q, k, v), tails = self.streams(x, state.tails, layout)
        if self.config.solver != "implicit":
            q, k = l2_normalise(q), l2_normalise(k)
        q, k = self._features(q).astype(q.dtype), self._features(k).astype(k.dtype)
        decay = None if self.decay is None else self.decay(x)
        engine = self.config.engine()
        if engine == "scalar_decay":
            return MemoryInputs(ScalarDecayTokens(q, k, v, decay)), tails
        if engine == "vector_decay":
            return MemoryInputs(VectorDecayTokens(q, k, v, decay)), tails
        if engine == "mesa":
            once = jnp.ones(k.shape[:3], jnp.float32)
            return MemoryInputs(MesaTokens(q, k, v, self._ridge(q), once, decay)), tails
        step = self._step(x, k)
        if engine == "delta_rule":
            return MemoryInputs(DeltaTokens(q, k, v, step, decay)), tails
        if engine == "delta_product":
            k, v, step = (
                rearrange(a, "b t (r h) ... -> b t r h ...", r=self.config.steps)
                for a in (k, v, step)
            )
            return MemoryInputs(DeltaProductTokens(q, k, v, step, decay)), tails
        step = step[..., None]
        value, erase = (step * v).astype(v.dtype), (step * k).astype(k.dtype)
        return MemoryInputs(EraseWriteTokens(q, k, value, erase, decay)), tails

    def read(
        self, query: Float[Array, "b t h k"], memory: Any
    ) -> Float[Array, "b t h v"]:
        if not isinstance(memory, MesaMemory):
            return super().read(query, memory)
        nothing = jnp.zeros((*query.shape[:3], self.head_size), query.dtype)
        weight = jnp.zeros(query.shape[:3], jnp.float32)
        tokens = MesaTokens(query, query, nothing, self._ridge(query), weight)
        return self.rule.chunkwise(tokens, memory, chunk_size=self._chunk_size())[0]

    def _ridge(self, query: Float[Array, "b t h k"]) -> Float[Array, "b t h k"]:
        return jnp.full(query.shape, self.config.ridge, jnp.float32)

    def _step(
        self, x: Float[Array, "b t d"], features: Float[Array, "b t h f"]
    ) -> Float[Array, "b t h"]:
        """Return the step size of each token."""
        assert self.step_size is not None
        logit = self.step_size(x).astype(jnp.float32)
        if self.config.solver != "implicit":
            return jax.nn.sigmoid(logit)
        # The step to the minimum of |v - m(k)|^2 / 2 + |m - m'|^2 / (2 b).
        b = jax.nn.softplus(logit)
        return b / (1 + b * jnp.sum(jnp.square(features.astype(jnp.float32)), axis=-1))

    def _features(self, x: Float[Array, "b t h k"]) -> Float[Array, "b t h f"]:
        """Return features, of length 1 if `x` has length 1."""
        if self.config.regressor == "constant":
            return jnp.ones_like(x[..., :1])
        if self.config.regressor == "linear":
            return x
        degree = self.config.degree
        length = math.sqrt(sum(1 / math.factorial(n) for n in range(degree + 1)))
        return feature_maps.polynomial(x, degree) / length


def _num_features(config: TestTimeRegressionConfig, size: int) -> int:
    if config.regressor != "polynomial":
        return 1 if config.regressor == "constant" else size
    features = feature_maps.polynomial_size(size, config.degree)
    if features > _MOST_FEATURES:
        raise InputError(
            f"a polynomial of degree {config.degree} in {size} numbers has "
            f"{features:,} features; choose a lower degree or a smaller head_size"
        )
    return features
