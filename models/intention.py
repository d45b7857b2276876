"""Intention: kernel ridge regression of the values on the keys so far."""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, get_args

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from .capacity import check_slots
from .interface import Layout, MemoryLayer
from .layer_checks import (
    check_choice,
    check_convolution,
    check_positive,
    resolve_head_size,
)
from .layer_config import Family, RegisteredConfig
from .ops.kernel_ridge import (
    Fit,
    Kernel,
    append_row,
    extend_fit,
    make_kernel,
    read_fit,
    take_rows,
)
from .ops.normalisation import l2_normalise
from .read_out import ReadOut
from .regression import Regression
from .ridge import Ridge, check_ridge
from .streams import Tails, init_tails, query_key_value, run_streams, streams_of

IntentionKernel = Literal["linear", "exponential"]


@dataclass(frozen=True, kw_only=True)
class IntentionConfig(RegisteredConfig):
    """Intention (Garnelo and Czarnecki 2023, arXiv:2305.10203).

    Per head, with keys and queries of length 1, K_t and V_t those of the document up to
    token t, and a learned ridge r:

        o_t = kappa(q_t, K_t) (kappa(K_t, K_t) + r I)^-1 V_t

    kappa(q, k) is q . k, or exp((q . k - 1) / bandwidth).

    Differs from it in: causal, so every token has its own regression; keys and queries
    have length 1; the ridge is learned; optional short convolutions.
    """

    family: ClassVar[Family] = "least squares"
    regression: ClassVar[Regression | None] = Regression("uniform", "kernel", "exact")

    num_heads: int = 4
    head_size: int | None = None
    """Size of each head's queries, keys and values; None: width / num_heads."""
    kernel: IntentionKernel = "exponential"
    """linear: q . k; exponential: exp((q . k - 1) / bandwidth)."""
    bandwidth: float = 0.5
    """Width of the exponential kernel."""
    ridge_floor: float = 0.05
    """Lower bound of the ridge."""
    initial_ridge: float = 1.0
    """Initial value of the ridge."""
    convolution_size: int = 4
    """Taps of the short convolutions on queries, keys and values; 0: none."""

    def __post_init__(self) -> None:
        check_convolution(self.convolution_size)
        check_positive("bandwidth", self.bandwidth)
        check_ridge(self.ridge_floor, self.initial_ridge)
        check_choice("kernel", self.kernel, get_args(IntentionKernel))

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "Intention":
        del layer_index
        return Intention(self, width, rngs, depth)


class IntentionState(NamedTuple):
    """State of `Intention`.

    Attributes:
        fit: keys, rows of the factor and whitened values of the document so far; slot s
            holds the token at position s.
        tails: last inputs of each short convolution, float32.
        position: number of tokens of the document so far.
    """

    fit: Fit
    tails: Tails
    position: Int[Array, "b"]


class Intention(MemoryLayer[IntentionState]):
    """See `IntentionConfig`."""

    state_growth = "square"

    def __init__(self, config: IntentionConfig, width: int, rngs: nnx.Rngs, depth: int):
        heads = config.num_heads
        self.config = config
        self.head_size = resolve_head_size(width, heads, config.head_size)
        inner = heads * self.head_size
        self.query, self.key, self.value = query_key_value(
            width,
            (inner, inner, inner),
            (heads, heads, heads),
            config.convolution_size,
            rngs,
            activation=False,
        )
        self.ridge = Ridge(
            (heads,), floor=config.ridge_floor, initial=config.initial_ridge
        )
        self.read_out = ReadOut(inner, width, rngs, depth=depth)

    @property
    def _kernel(self) -> Kernel:
        return make_kernel(self.config.kernel, self.config.bandwidth)

    def init_state(self, batch_size: int, max_length: int) -> IntentionState:
        check_slots(max_length)
        heads, size = self.config.num_heads, self.head_size
        return IntentionState(
            fit=Fit(
                jnp.zeros((batch_size, max_length, heads, size), jnp.float32),
                jnp.zeros((batch_size, heads, max_length, max_length), jnp.float32),
                jnp.zeros((batch_size, heads, max_length, size), jnp.float32),
            ),
            tails=init_tails(streams_of(self), batch_size),
            position=jnp.zeros((batch_size,), jnp.int32),
        )

    def fresh_rows(
        self, state: IntentionState, rows: Bool[Array, "b"]
    ) -> IntentionState:
        # At position 0 every slot is empty, so the fit need not be cleared.
        fresh = self.init_state(rows.shape[0], 0)._replace(fit=state.fit)
        return self.choose_rows(rows, fresh, state)

    def capacity(self, state: IntentionState) -> int | None:
        return state.fit.key.shape[-3]

    def sequence(
        self, x: Float[Array, "b t d"], state: IntentionState, layout: Layout
    ) -> tuple[Float[Array, "b t d"], IntentionState]:
        time, slots = x.shape[1], state.fit.key.shape[1]
        _, position = layout.positions(state.position, time)
        (q, k, v), tails = self._heads(x, state, layout)
        segment = layout.segments(time)
        if segment is None:
            segment = jnp.zeros(x.shape[:2], jnp.int32)
        slot = jnp.arange(slots, dtype=jnp.int32)[None, :]
        held = jnp.where(slot < state.position[:, None], 0, -1)
        whole = extend_fit(
            state.fit, held, k, v, segment, kernel=self._kernel, ridge=self.ridge()
        )
        index = jnp.arange(time)
        causal = (index[:, None] >= index[None, :])[None]
        seen = jnp.concatenate(
            [
                segment[:, :, None] == held[:, None, :],
                (segment[:, :, None] == segment[:, None, :]) & causal,
            ],
            axis=2,
        )
        o = read_fit(whole, seen, q, kernel=self._kernel)
        fit = state.fit
        if slots and time:
            # The last real token of the call has position `position - 1`.
            length = time if layout.length is None else layout.length[:, None]
            new = slot - position[:, None] + length
            source = jnp.where(new >= 0, slots + jnp.clip(new, 0, time - 1), slot)
            fit = take_rows(whole, fit, source, slot < position[:, None])
        y = self.read_out(o.astype(x.dtype), x)
        return y, IntentionState(fit, tails, position)

    def token(
        self, x: Float[Array, "b d"], state: IntentionState
    ) -> tuple[Float[Array, "b d"], IntentionState]:
        x = x[:, None, :]
        (q, k, v), tails = self._heads(x, state, Layout())
        o, fit = append_row(
            state.fit,
            state.position,
            q[:, 0],
            k[:, 0],
            v[:, 0],
            kernel=self._kernel,
            ridge=self.ridge(),
        )
        y = self.read_out(o[:, None].astype(x.dtype), x)[:, 0]
        return y, IntentionState(fit, tails, state.position + 1)

    def _heads(
        self, x: Float[Array, "b t d"], state: IntentionState, layout: Layout
    ) -> tuple[tuple[Array, Array, Array], Tails]:
        """Return queries and keys of length 1, and values, in float32 at least."""
        made, tails = run_streams(streams_of(self), x, state.tails, layout)
        q, k, v = (a.astype(jnp.promote_types(a.dtype, jnp.float32)) for a in made)
        return (l2_normalise(q), l2_normalise(k), v), tails
