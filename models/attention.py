"""Exact softmax attention, over the whole document or over a window."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from memzoo.errors import InputError

from .interface import Layout, MemoryLayer
from .key_value_cache import (
    KeyValueCache,
    extend_cache,
    extend_cache_token,
    held_positions,
    init_cache,
)
from .layer_checks import (
    check_convolution,
    check_even,
    check_positive,
    check_rotary_base,
    resolve_head_size,
)
from .layer_config import Family, RegisteredConfig
from .ops.attention import attention
from .ops.rotary import RotaryScaling, rotary
from .ops.visibility import ALWAYS_VISIBLE
from .projection import RMSNorm, projection
from .read_out import ReadOut
from .regression import Regression
from .streams import Tails, init_tails, query_key_value, run_streams, streams_of

Implementation = Literal["auto", "blockwise", "reference", "cudnn"]


@dataclass(frozen=True, kw_only=True)
class SoftmaxAttentionConfig(RegisteredConfig):
    """Fields that all softmax attention layers share."""

    family: ClassVar[Family] = "softmax attention"
    regression: ClassVar[Regression | None] = Regression("kernel", "constant", "exact")

    num_heads: int = 4
    head_size: int | None = None
    """Size of each head's queries, keys and values; None: width / num_heads."""
    key_value_heads: int | None = None
    """Number of key and value heads, a divisor of num_heads; None: num_heads."""
    rotary_base: float | None = 10000.0
    """Base of the rotary position embedding; None: no positions."""
    rotary_fraction: float = 1.0
    """Fraction of each head's channels to rotate, starting with the first."""
    rotary_factor: float = 1.0
    """Divide positions by this number (position interpolation)."""
    rotary_original_length: int | None = None
    """Divide only the slow rotations, those that turn less than once within this many
    tokens, as Llama 3.1 does; None: divide all."""
    normalise_query_key: bool = False
    """Apply a root-mean-square norm with a learned scale to queries and keys."""
    zero_centred_norm: bool = False
    """Multiply by 1 + scale in that norm, with a scale that begins at 0."""
    norm_epsilon: float = 1e-5
    """Epsilon of that norm: added to the mean square."""
    bias: bool = False
    """Give the projections of queries, keys and values a bias."""
    output_bias: bool = False
    """Give the output projection a bias."""
    output_gate: bool = False
    """Multiply the read by sigmoid(W_g x)."""
    convolution_size: int = 0
    """Taps of the short convolutions on queries, keys and values; 0: none."""
    persistent_tokens: int = 0
    """Number of learned keys and values that every token sees. They have no position:
    they meet the query before it is rotated. 0: none."""
    implementation: Implementation = "auto"
    """Affects speed only; auto: cuDNN on a GPU where it applies, else blockwise."""

    def __post_init__(self) -> None:
        check_convolution(self.convolution_size)
        if self.rotary_base is not None:
            check_rotary_base(self.rotary_base)
        if not 0 < self.rotary_fraction <= 1:
            raise InputError(
                f"rotary_fraction is {self.rotary_fraction}; give a number above 0, "
                "up to 1"
            )
        check_positive("rotary_factor", self.rotary_factor)
        if self.rotary_original_length is not None:
            check_positive("rotary_original_length", self.rotary_original_length)
        check_positive("norm_epsilon", self.norm_epsilon)
        if self.zero_centred_norm and not self.normalise_query_key:
            raise InputError(
                "zero_centred_norm is True but there is no norm; set "
                "normalise_query_key to True, or leave it out"
            )
        if self.persistent_tokens < 0:
            raise InputError(
                f"persistent_tokens is {self.persistent_tokens}; give 0 (none) or more"
            )
        if self.key_value_heads is None:
            return
        check_positive("key_value_heads", self.key_value_heads)
        if self.num_heads % self.key_value_heads:
            raise InputError(
                f"key_value_heads {self.key_value_heads} does not divide num_heads "
                f"{self.num_heads}; choose a divisor or None"
            )


@dataclass(frozen=True, kw_only=True)
class AttentionConfig(SoftmaxAttentionConfig):
    """Causal softmax attention (Vaswani et al. 2017, arXiv:1706.03762).

    Per head, over the tokens s <= t of the document:

        o_t = sum_s softmax_s(q_t . k_s / sqrt(head size)) v_s

    with rotary positions (arXiv:2104.09864), grouped keys and values
    (arXiv:2305.13245), normalised queries and keys (arXiv:2302.05442) and a gate on
    the read (arXiv:2505.06708), each optional.

    Differs from it in: optional short convolutions on queries, keys and values, so
    that all layers of the zoo can be compared with the same convolution.
    """

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "Attention":
        del layer_index
        return Attention(self, width, rngs, depth, window=None)


class AttentionState(NamedTuple):
    """State of `Attention`.

    Attributes:
        cache: keys and values of the document so far, or of the last window.
        tails: last inputs of each short convolution, float32.
        position: number of tokens of the document so far.
        memory: memory of a layer that adds one to attention.
    """

    cache: KeyValueCache
    tails: Tails
    position: Int[Array, "b"]
    memory: Any = None


class Attention(MemoryLayer[AttentionState]):
    """See `AttentionConfig` and the configs for windows and prefixes."""

    state_growth = "linear"

    def __init__(
        self,
        config: SoftmaxAttentionConfig,
        width: int,
        rngs: nnx.Rngs,
        depth: int,
        *,
        window: int | None,
        accepts_prefix: bool = False,
    ):
        size = resolve_head_size(width, config.num_heads, config.head_size)
        self.rotated = int(size * config.rotary_fraction)
        if config.rotary_base is not None:
            whole = self.rotated == size
            name = "head_size" if whole else "rotary_fraction x head_size"
            check_even(name, self.rotated, "rotary positions rotate pairs")
        self.config = config
        self.window = window
        self.accepts_prefix = accepts_prefix
        if window is not None:
            self.state_growth = "bounded"
        self.head_size = size
        self.groups = config.key_value_heads or config.num_heads
        inner = config.num_heads * size
        self.query, self.key, self.value = query_key_value(
            width,
            (inner, self.groups * size, self.groups * size),
            (config.num_heads, self.groups, self.groups),
            config.convolution_size,
            rngs,
            activation=False,
            bias=config.bias,
        )
        if config.normalise_query_key:
            for stream in (self.query, self.key):
                stream.norm = RMSNorm(
                    size, config.norm_epsilon, zero_centred=config.zero_centred_norm
                )
        self.persistent_key, self.persistent_value = (
            self._persistent(config.persistent_tokens, rngs) for _ in range(2)
        )
        self.read_out = ReadOut(
            inner,
            width,
            rngs,
            depth=depth,
            gate=projection(width, inner, rngs) if config.output_gate else None,
            activation="sigmoid",
            bias=config.output_bias,
        )

    def _persistent(self, tokens: int, rngs: nnx.Rngs) -> nnx.Param | None:
        if not tokens:
            return None
        shape = (tokens, self.groups, self.head_size)
        return nnx.Param(jax.random.normal(rngs.params(), shape, jnp.float32))

    def init_state(self, batch_size: int, max_length: int) -> AttentionState:
        slots = max_length if self.window is None else min(self.window, max_length)
        size = self.head_size
        return AttentionState(
            cache=init_cache(batch_size, slots, self.groups, size, size),
            tails=init_tails(streams_of(self), batch_size),
            position=jnp.zeros((batch_size,), jnp.int32),
        )

    def fresh_rows(
        self, state: AttentionState, rows: Bool[Array, "b"]
    ) -> AttentionState:
        # At position 0 no slot is visible, so the cache need not be cleared.
        fresh = self.init_state(rows.shape[0], 0)._replace(cache=state.cache)
        return self.choose_rows(rows, fresh, state)

    def capacity(self, state: AttentionState) -> int | None:
        slots = state.cache.key.shape[-3]
        turns_over = self.window is not None and slots >= self.window
        return None if turns_over else slots

    def _heads(
        self,
        x: Float[Array, "b t d"],
        state: AttentionState,
        layout: Layout,
        place: Int[Array, "b t"],
    ) -> tuple[tuple[Array, Array, Array], Tails]:
        (q, k, v), tails = run_streams(streams_of(self), x, state.tails, layout)
        persistent = self._persistent_scores(q)
        q, k = self._placed(q, place), self._placed(k, place)
        if persistent is not None:
            q = jnp.concatenate([q, persistent], axis=-1)
        return (q, k, v), tails

    def _placed(
        self, x: Float[Array, "b t h k"], place: Int[Array, "b t"]
    ) -> Float[Array, "b t h k"]:
        config = self.config
        if config.rotary_base is None:
            return x
        return rotary(
            x,
            place,
            base=config.rotary_base,
            rotated=self.rotated,
            scaling=RotaryScaling(config.rotary_factor, config.rotary_original_length),
        )

    def _persistent_scores(
        self, q: Float[Array, "b t h k"]
    ) -> Float[Array, "b t h p"] | None:
        """Return the products of unrotated queries and persistent keys.

        `_attend` appends them to the queries as further channels.
        """
        if self.persistent_key is None:
            return None
        repeats = q.shape[2] // self.groups
        grouped = q.reshape(*q.shape[:2], self.groups, repeats, q.shape[3])
        keys = self.persistent_key[...].astype(q.dtype)
        scores = jnp.einsum("btgrk,pgk->btgrp", grouped, keys)
        return scores.reshape(*q.shape[:3], keys.shape[0])

    def sequence(
        self, x: Float[Array, "b t d"], state: AttentionState, layout: Layout
    ) -> tuple[Float[Array, "b t d"], AttentionState]:
        time, slots = x.shape[1], state.cache.key.shape[1]
        place, position = layout.positions(state.position, time)
        (q, k, v), tails = self._heads(x, state, layout, place)
        cache = extend_cache(state.cache, k, v, position, layout)
        prefix = layout.prefix_tokens(state.position, time)
        if slots == 0 and layout.reset is None and prefix is None:
            # The call starts at the document's first token, and no token looks back at
            # padding, which is at the end: plain causal attention.
            o = self._attend(q, k, v)
        else:
            segment = layout.segments(time)
            if segment is None:
                segment = jnp.zeros_like(place)
            held = held_positions(slots, state.position) if slots else place[:, :0]
            # A key at position 0 is visible to every token of its document.
            seen_from = place if prefix is None else jnp.where(prefix, 0, place)
            o = self._attend(
                q,
                jnp.concatenate([state.cache.key.astype(k.dtype), k], axis=1),
                jnp.concatenate([state.cache.value.astype(v.dtype), v], axis=1),
                query_position=place,
                query_segment=segment,
                key_position=jnp.concatenate([held, seen_from], axis=1),
                key_segment=jnp.concatenate(
                    [jnp.where(held >= 0, 0, -1), segment], axis=1
                ),
            )
        y = self.read_out(o, x)
        return y, AttentionState(cache, tails, position)

    def token(
        self, x: Float[Array, "b d"], state: AttentionState
    ) -> tuple[Float[Array, "b d"], AttentionState]:
        x = x[:, None, :]
        place = state.position[:, None]
        (q, k, v), tails = self._heads(x, state, Layout(), place)
        cache, slots = state.cache, state.cache.key.shape[1]
        if slots:
            cache = extend_cache_token(cache, k[:, 0], v[:, 0], state.position)
            held = held_positions(slots, state.position + 1)
            o = self._attend(
                q,
                cache.key.astype(k.dtype),
                cache.value.astype(v.dtype),
                query_position=place,
                query_segment=jnp.zeros_like(place),
                key_position=held,
                key_segment=jnp.where(held >= 0, 0, -1),
            )
        else:
            o = self._attend(q, k, v)
        y = self.read_out(o, x)[:, 0]
        return y, AttentionState(cache, tails, state.position + 1)

    def _attend(
        self,
        q: Float[Array, "b t h q"],
        k: Float[Array, "b s g k"],
        v: Float[Array, "b s g v"],
        **where: Any,
    ) -> Float[Array, "b t h v"]:
        """Attend to keys and persistent tokens; see `_persistent_scores`."""
        if self.persistent_value is not None:
            where = where or _plainly(k)
            # The queries' last channels hold the scores: each persistent key selects
            # its own score, and all other keys select none.
            tokens = self.config.persistent_tokens
            picks = jnp.eye(tokens, self.head_size + tokens, self.head_size)[:, None]
            picks = jnp.repeat(picks, self.groups, axis=1)
            k = jnp.pad(k, ((0, 0), (0, 0), (0, 0), (0, tokens)))
            k = _before(picks, k)
            v = _before(self.persistent_value[...], v)
            where = _see_always(tokens, where)
        return attention(
            q,
            k,
            v,
            scale=self.head_size**-0.5,
            window=self.window,
            implementation=self.config.implementation,
            **where,
        )


def _before(
    tokens: Float[Array, "p g k"], x: Float[Array, "b s g k"]
) -> Float[Array, "b n g k"]:
    rows = jnp.broadcast_to(tokens[None], (x.shape[0], *tokens.shape))
    return jnp.concatenate([rows.astype(x.dtype), x], axis=1)


def _plainly(k: Float[Array, "b s g k"]) -> dict[str, Array]:
    """Return positions for queries and keys of the same tokens of one document."""
    index = jnp.arange(k.shape[1], dtype=jnp.int32)[None, :]
    place = jnp.broadcast_to(index, k.shape[:2])
    zero = jnp.zeros_like(place)
    return {
        "query_position": place,
        "query_segment": zero,
        "key_position": place,
        "key_segment": zero,
    }


def _see_always(tokens: int, where: dict[str, Array]) -> dict[str, Array]:
    """Return the places with `tokens` always visible keys put first."""

    def first(x: Array, value: int) -> Array:
        start = jnp.full((x.shape[0], tokens), value, x.dtype)
        return jnp.concatenate([start, x], axis=1)

    return where | {
        "key_position": first(where["key_position"], 0),
        "key_segment": first(where["key_segment"], ALWAYS_VISIBLE),
    }
