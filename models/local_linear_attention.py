"""Local linear attention: a line through the values around every query."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from memzoo.errors import InputError

from .attention import Attention, AttentionState, SoftmaxAttentionConfig
from .interface import Layout
from .layer_checks import check_choice
from .layer_config import Family
from .ops.local_linear import local_linear_attention
from .projection import projection, split_heads
from .regression import Regression
from .ridge import Ridge, check_ridge
from .streams import Tails

SlopeSolver = Literal["exact", "amortised"]


@dataclass(frozen=True, kw_only=True)
class LocalLinearAttentionConfig(SoftmaxAttentionConfig):
    """Local linear attention (Zuo et al. 2025, arXiv:2510.01450).

    Per head, with softmax weights p over the tokens s <= t of the document, and with
    the weighted means k_bar, v_bar and covariances Sigma, Cov of keys and values:

        o_t = v_bar + Cov^T (Sigma + r I)^-1 (q_t - k_bar)
            = sum_s p_s (1 + u_t . (k_s - k_bar)) v_s

    Softmax attention is v_bar, the weighted least-squares fit of a constant. This is
    the fit of a line, read at the query, with a ridge r on its slope.

    With the solver `amortised`, -u_t is a linear map of the input, as in Parallax
    (arXiv:2605.29157).

    Differs from it in: the ridge is learned, one number per head; queries and keys are
    normalised and have rotary positions, by the options of attention.
    """

    family: ClassVar[Family] = "least squares"
    regression: ClassVar[Regression | None] = Regression("kernel", "linear", "exact")

    normalise_query_key: bool = True
    """Apply a root-mean-square norm with a learned scale to queries and keys. With keys
    of one length, softmax weights are those of a Gaussian kernel around the query."""
    solver: SlopeSolver = "exact"
    """exact: solve for u; amortised: learn u as a map of the input."""
    ridge_floor: float = 0.05
    """Lower bound of the ridge."""
    initial_ridge: float = 1.0
    """Initial value of the ridge."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("solver", self.solver, get_args(SlopeSolver))
        check_ridge(self.ridge_floor, self.initial_ridge)
        if self.persistent_tokens:
            raise InputError(
                f"persistent_tokens is {self.persistent_tokens}, but they have no "
                "place on the line; set it to 0, or use attention"
            )
        if self.implementation != "auto":
            raise InputError(
                f"implementation is {self.implementation!r}, but local linear "
                "attention has one; leave it out"
            )

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "LocalLinearAttention":
        del layer_index
        return LocalLinearAttention(self, width, rngs, depth)


class LocalLinearAttention(Attention):
    """See `LocalLinearAttentionConfig`."""

    def __init__(
        self,
        config: LocalLinearAttentionConfig,
        width: int,
        rngs: nnx.Rngs,
        depth: int,
    ):
        super().__init__(config, width, rngs, depth, window=None)
        heads, size = config.num_heads, self.head_size
        self.ridge: Ridge | None = nnx.data(None)
        self.slope: nnx.Linear | None = nnx.data(None)
        if config.solver == "exact":
            self.ridge = Ridge(
                (heads,), floor=config.ridge_floor, initial=config.initial_ridge
            )
        else:
            # Small at first: u . k is added to 1.
            self.slope = projection(width, heads * size, rngs, gain=1 / size)

    def _heads(
        self,
        x: Float[Array, "b t d"],
        state: AttentionState,
        layout: Layout,
        place: Int[Array, "b t"],
    ) -> tuple[tuple[Array, Array, Array], Tails]:
        (q, k, v), tails = super()._heads(x, state, layout, place)
        if self.slope is not None:
            slope = split_heads(self.slope(x), self.config.num_heads)
            # `_attend` takes it from the queries' last channels.
            q = jnp.concatenate([q, self._placed(slope, place)], axis=-1)
        return (q, k, v), tails

    def _attend(
        self,
        q: Float[Array, "b t h q"],
        k: Float[Array, "b s g k"],
        v: Float[Array, "b s g v"],
        **where: Any,
    ) -> Float[Array, "b t h v"]:
        slope = None
        if self.slope is not None:
            q, slope = jnp.split(q, 2, axis=-1)
            slope = -slope
        ridge = None if self.ridge is None else self.ridge()
        return local_linear_attention(
            q, k, v, ridge=ridge, slope=slope, scale=self.head_size**-0.5, **where
        )
