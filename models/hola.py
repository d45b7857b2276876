"""HOLA: Gated DeltaNet with an exact store of its most surprising pairs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from memzoo.errors import InputError

from .associative_memory import AssociativeState
from .exact_store import (
    ExactStore,
    Pairs,
    fill_segment,
    fill_slot,
    init_store,
    open_segment,
    read_store,
)
from .gated_delta_net import GatedDeltaFields, GatedDeltaNet
from .interface import Layout, MemoryLayer
from .layer_checks import check_choice, check_positive
from .layer_config import Family
from .memory_inputs import MemoryInputs
from .ops.delta_surprise import DELTA_SURPRISE
from .ops.windows import Part, window_scan
from .projection import RMSNorm
from .streams import Tails

Evict = Literal["surprise", "recency", "residual", "value"]


@dataclass(frozen=True, kw_only=True)
class HOLAConfig(GatedDeltaFields):
    """Hippocampal linear attention, HOLA (arXiv:2607.02303).

    Per head, beside the state S of `GatedDeltaNetConfig`, with e_t = v_t - alpha_t
    S_(t-1)^T k_t, and with separate learned scales in the norms:

        m_t = beta_t |e_t|
        V_t = the `store_size` tokens of largest m in the earlier segments of the
              document, the tokens of this segment up to t, and a sink with value 0
        c_t = sum over V_t of softmax_j(norm(q_t) . norm(k_j) / sqrt(head size)) v_j
        o_t = S_t^T q_t / sqrt(head size) + sigmoid(g) c_t

    g begins at -4, and the sink's logit at 0. A segment is the paper's block.

    Differs from it in: the read of S keeps the factor and the norm of gated_delta_net;
    the norms act on keys and queries of length sqrt(head size), which changes only the
    effect of their epsilon; gate and sink, one number per head, are inferred from the
    paper's parameter count.
    """

    family: ClassVar[Family] = "hierarchical memory"
    small: ClassVar[Mapping[str, Any]] = {"store_size": 3, "segment_size": 4}

    store_size: int = 64
    """Number of pairs that each head stores exactly."""
    segment_size: int = 256
    """Tokens per segment. Those of the current segment are read exactly."""
    evict: Evict = "surprise"
    """Score by which pairs stay. surprise: beta_t |e_t|; residual: |e_t|; value:
    beta_t |v_t|; recency: t."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("store_size", self.store_size)
        check_positive("segment_size", self.segment_size)
        check_choice("evict", self.evict, get_args(Evict))
        if self.prefix:
            raise InputError(
                "prefix is True, but the exact store reads no prefix; set it to False"
            )

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "HOLA":
        del layer_index
        return HOLA(self, width, rngs, depth)


class HOLAState(NamedTuple):
    """State of `HOLA`.

    Attributes:
        memory: the delta rule's matrix of each head.
        store: exact pairs.
        tails: last inputs of each short convolution, float32.
        position: number of tokens of the document so far.
    """

    memory: Float[Array, "b h k v"]
    store: ExactStore
    tails: Tails
    position: Int[Array, "b"]


class HOLA(MemoryLayer[HOLAState]):
    """See `HOLAConfig`."""

    def __init__(self, config: HOLAConfig, width: int, rngs: nnx.Rngs, depth: int):
        self.config = config
        self.memory = GatedDeltaNet(config, width, rngs, depth)
        heads, size = self.memory.value_heads, self.memory.head_size
        self.store_query_norm = RMSNorm(size, config.norm_epsilon)
        self.store_key_norm = RMSNorm(size, config.norm_epsilon)
        self.store_gate = nnx.Param(jnp.full((heads,), -4.0, jnp.float32))
        self.store_sink = nnx.Param(jnp.zeros((heads,), jnp.float32))

    def init_state(self, batch_size: int, max_length: int) -> HOLAState:
        inner = self.memory.init_state(batch_size, max_length)
        store = init_store(
            batch_size,
            self.config.store_size,
            self.config.segment_size,
            self.memory.value_heads,
            self.memory.head_size,
            self.memory.value_size,
        )
        return HOLAState(inner.memory, store, inner.tails, inner.position)

    def sequence(
        self, x: Float[Array, "b t d"], state: HOLAState, layout: Layout
    ) -> tuple[Float[Array, "b t d"], HOLAState]:
        place, position = layout.positions(state.position, x.shape[1])
        inputs, tails = self._inputs(x, state, layout)
        read, memory = DELTA_SURPRISE.chunkwise(
            inputs.tokens,
            state.memory,
            reset=layout.reset,
            valid=inputs.valid,
            chunk_size=self.config.chunk_size,
        )
        query, pairs = self._exact(inputs, read[..., -1], place)
        size = self.config.segment_size
        exact, store = window_scan(
            self._segment,
            state.store,
            (query, pairs),
            place=place,
            update_every=size,
            chunk_size=size,
            reset=layout.reset,
            valid=layout.valid(x.shape[1]),
        )
        y = self._output(read[..., :-1], exact, x)
        return y, HOLAState(memory, store, tails, position)

    def token(
        self, x: Float[Array, "b d"], state: HOLAState
    ) -> tuple[Float[Array, "b d"], HOLAState]:
        x, place = x[:, None, :], state.position[:, None]
        inputs, tails = self._inputs(x, state, Layout())
        read, memory = DELTA_SURPRISE.token(inputs.tokens, state.memory)
        query, pairs = self._exact(inputs, read[..., -1], place)
        slot = state.position % self.config.segment_size
        opens = slot == 0
        store = jax.lax.cond(
            jnp.any(opens), open_segment, lambda store, _: store, state.store, opens
        )
        store = fill_slot(store, pairs, slot)
        exact = read_store(store, query, slot[:, None], self.store_sink[...])
        y = self._output(read[..., :-1], exact, x)[:, 0]
        return y, HOLAState(memory, store, tails, state.position + 1)

    def _inputs(
        self, x: Float[Array, "b t d"], state: HOLAState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        inner = AssociativeState(state.memory, state.tails, state.position)
        inputs, tails = self.memory.inputs(x, inner, layout)
        return inputs.only(layout.valid(x.shape[1])), tails

    def _exact(
        self,
        inputs: MemoryInputs,
        surprise: Float[Array, "b t h"],
        place: Int[Array, "b t"],
    ) -> tuple[Float[Array, "b t h k"], Pairs]:
        """Return scaled queries, and the pairs of the tokens with their scores."""
        tokens, size = inputs.tokens, self.memory.head_size
        # At length sqrt(head size), the mean square is 1 and epsilon hardly counts.
        query = self.store_query_norm(tokens.query * size) * size**-0.5
        key = self.store_key_norm(tokens.key * size**0.5)
        score = surprise.astype(jnp.float32)
        if self.config.evict == "residual":
            strength = tokens.write_strength.astype(jnp.float32)
            score = score / jnp.maximum(strength, jnp.finfo(jnp.float32).tiny)
        elif self.config.evict == "value":
            length = jnp.linalg.norm(tokens.value.astype(jnp.float32), axis=-1)
            score = tokens.write_strength.astype(jnp.float32) * length
        elif self.config.evict == "recency":
            score = jnp.broadcast_to(place[:, :, None], score.shape).astype(score.dtype)
        return query, Pairs(key, tokens.value, jax.lax.stop_gradient(score))

    def _segment(
        self, store: ExactStore, tokens: tuple[Array, Pairs], part: Part
    ) -> tuple[ExactStore, Float[Array, "b c h v"]]:
        """Write and read one segment, or the part of it that a call holds."""
        query, pairs = tokens
        store = open_segment(store, part.opens, part.fresh)
        store = fill_segment(store, pairs, part.valid)
        slot = jnp.arange(query.shape[1], dtype=jnp.int32)[None, :]
        slot = jnp.broadcast_to(slot, query.shape[:2])
        return store, read_store(store, query, slot, self.store_sink[...])

    def _output(
        self,
        read: Float[Array, "b t h v"],
        exact: Float[Array, "b t h v"],
        x: Float[Array, "b t d"],
    ) -> Float[Array, "b t d"]:
        gate = jax.nn.sigmoid(self.store_gate[...])[None, None, :, None]
        return self.memory.output((read + gate * exact).astype(x.dtype), x)
