"""HCAM: attention over chunks of the past, first by their summaries, then inside."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from .chunk_ring import (
    ChunkRing,
    NumberedChunks,
    completed_chunks,
    extend_ring,
    extend_ring_token,
    init_ring,
    ring_chunks,
)
from .interface import Layout, MemoryLayer
from .layer_checks import check_convolution, check_positive, resolve_head_size
from .layer_config import Family, RegisteredConfig
from .ops.chunk_attention import Chunks, chunk_attention
from .ops.visibility import Places
from .projection import projection, split_heads
from .read_out import ReadOut
from .streams import StreamTails, Tails, init_tails, query_key_value, streams_of


@dataclass(frozen=True, kw_only=True)
class HCAMConfig(RegisteredConfig):
    """Hierarchical chunk attention memory (Lampinen et al. 2021, arXiv:2105.14039).

    A document is split into segments of C tokens, the paper's chunks. A token t sees
    the last `num_segments` segments n that ended before its segment began:

        z_n = mean of W_z x_s over the tokens s of n
        r_tn = W_r x_t . z_n / sqrt(F)
        w_t = softmax of the `top_k` largest r_tn
        p_s = x_s + sinusoid(number of tokens of n after s)
        o_tn = sum_(s in n) softmax_s(W_q x_t . W_k p_s / sqrt(head size)) W_v p_s
        y_t = W_o sum_n w_tn o_tn

    F is the size of all heads together. The output is 0 while no segment has ended.
    Tokens of the unfinished segment are invisible: let the layer alternate with
    sliding_window_attention.

    Differs from it in: the gradient reaches stored tokens unless `stop_gradient` is
    set; projections have no biases; optional short convolutions on queries, keys and
    values, so that all layers of the zoo can be compared with the same convolution.
    """

    family: ClassVar[Family] = "hierarchical memory"
    small: ClassVar[Mapping[str, Any]] = {
        "segment_size": 3,
        "num_segments": 3,
        "top_k": 2,
    }

    num_heads: int = 4
    head_size: int | None = None
    """Size of each head's queries, keys and values; None: width / num_heads."""
    segment_size: int = 32
    """Tokens of a segment, C."""
    num_segments: int = 64
    """Number of segments that the memory holds; older ones are dropped."""
    top_k: int = 4
    """Number of segments that a token reads."""
    stop_gradient: bool = False
    """Let no gradient pass from a read into the stored tokens; published: True."""
    convolution_size: int = 0
    """Taps of the short convolutions on queries, keys and values; 0: none."""

    def __post_init__(self) -> None:
        check_convolution(self.convolution_size)
        check_positive("segment_size", self.segment_size)
        check_positive("num_segments", self.num_segments)
        check_positive("top_k", self.top_k)

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "HCAM":
        del layer_index
        return HCAM(self, width, rngs, depth)


class HCAMState(NamedTuple):
    """State of `HCAM`.

    Attributes:
        ring: the last segments, the unfinished one included.
        tails: last inputs of each short convolution, float32.
        position: number of tokens of the document so far.
    """

    ring: ChunkRing
    tails: Tails
    position: Int[Array, "b"]


class _Tokens(NamedTuple):
    query: Float[Array, "b t h k"]
    key: Float[Array, "b t h k"]
    value: Float[Array, "b t h k"]
    relevance_query: Float[Array, "b t f"]
    feature: Float[Array, "b t f"]


class Relevance(nnx.Module):
    """Maps of the relevance of a segment to a token: `query` and `key`."""

    def __init__(self, width: int, size: int, rngs: nnx.Rngs):
        self.query = projection(width, size, rngs)
        self.key = projection(width, size, rngs)


class HCAM(MemoryLayer[HCAMState]):
    """See `HCAMConfig`."""

    state_growth = "bounded"

    def __init__(self, config: HCAMConfig, width: int, rngs: nnx.Rngs, depth: int):
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
        self.relevance = Relevance(width, inner, rngs)
        self.read_out = ReadOut(inner, width, rngs, depth=depth)

    def init_state(self, batch_size: int, max_length: int) -> HCAMState:
        config, size = self.config, self.head_size
        ring = init_ring(
            batch_size,
            max_length,
            chunk_size=config.segment_size,
            most_chunks=config.num_segments + 1,
            heads=config.num_heads,
            head_size=size,
            summary_size=config.num_heads * size,
        )
        tails = init_tails(streams_of(self), batch_size)
        return HCAMState(ring, tails, jnp.zeros((batch_size,), jnp.int32))

    def fresh_rows(self, state: HCAMState, rows: Bool[Array, "b"]) -> HCAMState:
        # At position 0 no segment is complete, so the ring need not be cleared.
        fresh = self.init_state(rows.shape[0], 0)._replace(ring=state.ring)
        return self.choose_rows(rows, fresh, state)

    def capacity(self, state: HCAMState) -> int | None:
        number = state.ring.summary_sum.shape[-2]
        turns_over = number > self.config.num_segments
        return None if turns_over else number * self.config.segment_size

    def sequence(
        self, x: Float[Array, "b t d"], state: HCAMState, layout: Layout
    ) -> tuple[Float[Array, "b t d"], HCAMState]:
        time = x.shape[1]
        place, position = layout.positions(state.position, time)
        tokens, tails = self._tokens(x, state, layout, place)
        stored = tokens.key, tokens.value, tokens.feature
        ring = extend_ring(state.ring, *stored, position, layout)
        found = []
        if state.ring.summary_sum.shape[1]:
            found.append(ring_chunks(state.ring, state.position))
        if time:
            found.append(
                completed_chunks(
                    state.ring,
                    *stored,
                    state.position,
                    layout,
                    self.config.segment_size,
                )
            )
        segment = layout.segments(time)
        if segment is None:
            segment = jnp.zeros_like(place)
        o = self._attend(tokens, found, segment, place)
        return self.read_out(o, x), HCAMState(ring, tails, position)

    def token(
        self, x: Float[Array, "b d"], state: HCAMState
    ) -> tuple[Float[Array, "b d"], HCAMState]:
        x, ring = x[:, None, :], state.ring
        place = state.position[:, None]
        tokens, tails = self._tokens(x, state, Layout(), place)
        found = []
        if ring.summary_sum.shape[1]:
            ring = extend_ring_token(
                ring,
                tokens.key[:, 0],
                tokens.value[:, 0],
                tokens.feature[:, 0],
                state.position,
            )
            found = [ring_chunks(ring, state.position + 1)]
        o = self._attend(tokens, found, jnp.zeros_like(place), place)
        return self.read_out(o, x)[:, 0], HCAMState(ring, tails, state.position + 1)

    def _tokens(
        self,
        x: Float[Array, "b t d"],
        state: HCAMState,
        layout: Layout,
        place: Int[Array, "b t"],
    ) -> tuple[_Tokens, Tails]:
        stored = jax.lax.stop_gradient(x) if self.config.stop_gradient else x
        streams = streams_of(self)
        before = state.tails or [each.init_tail(x.shape[0]) for each in streams]
        (q, k, v), after = zip(
            *(
                stream(given, tail, layout)
                for stream, given, tail in zip(
                    streams, (x, stored, stored), before, strict=True
                )
            ),
            strict=True,
        )
        inside = place % self.config.segment_size
        table = jnp.asarray(countdown(self.config.segment_size, x.shape[-1]), x.dtype)
        k, v = (
            made
            + split_heads(stream.project(table)[None], self.config.num_heads)[0, inside]
            for made, stream in ((k, self.key), (v, self.value))
        )
        relevance, feature = self.relevance.query(x), self.relevance.key(stored)
        tails = StreamTails(*after) if state.tails else ()
        return _Tokens(q, k, v, relevance, feature), tails

    def _attend(
        self,
        tokens: _Tokens,
        found: list[NumberedChunks],
        segment: Int[Array, "b t"],
        place: Int[Array, "b t"],
    ) -> Float[Array, "b t h k"]:
        if not found:
            return jnp.zeros_like(tokens.query)
        dtype = tokens.query.dtype
        each = [[a.astype(dtype) for a in chunks] for chunks, _, _ in found]
        chunks = Chunks(*(jnp.concatenate(a, 1) for a in zip(*each, strict=True)))
        places = Places(
            segment,
            # The newest segment that ended before the token's segment began.
            place // self.config.segment_size - 1,
            jnp.concatenate([a.segment for a in found], 1),
            jnp.concatenate([a.number for a in found], 1),
        )
        return chunk_attention(
            tokens.query,
            tokens.relevance_query,
            chunks,
            places,
            top_k=self.config.top_k,
            window=self.config.num_segments,
        )


def countdown(size: int, width: int) -> np.ndarray:
    """Return sinusoids `c d` of the numbers size - 1, ..., 1, 0.

    The first half of the channels are sines, the others cosines, with the frequencies
    10000^(-2 i / width) of Vaswani et al. 2017.
    """
    number = np.arange(size - 1, -1, -1.0)
    angle = number[:, None] * 10000.0 ** (-np.arange(0, width, 2) / width)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)[:, :width]
