"""B'MOJO-F: attention to a window of tokens and to fading tokens behind it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from .capacity import smallest_capacity
from .gated_delta_net import GatedDeltaNetConfig
from .interface import Layout, MemoryLayer
from .key_value_cache import (
    KeyValueCache,
    extend_cache,
    extend_cache_token,
    held_positions,
    init_cache,
)
from .layer_checks import (
    check_even,
    check_positive,
    check_rotary_base,
    resolve_head_size,
)
from .layer_config import Family, LayerConfig, RegisteredConfig
from .ops.attention import attention
from .ops.rotary import rotary
from .projection import split_heads
from .read_out import ReadOut
from .streams import Stream


@dataclass(frozen=True, kw_only=True)
class BMojoConfig(RegisteredConfig):
    """B'MOJO-F, inspired by B'MOJO (Zancato et al. 2024, arXiv:2407.06324).

    The memory, a recurrent layer, maps the layer's input x to fading tokens f. Per
    head, with rotary positions, a token t sees in one softmax

        keys and values of x_s for t - window < s <= t
        keys and values of f_s for t - 2 window < s <= t - window

    y_t is the output projection of the mean of the values. Both paths share their maps.

    Differs from it in: only the fading part, whose code is public, is here. The paper
    also stores tokens that are hard to predict (eidetic memory); its rule is not
    public, and hola has a store in that style. No grouped heads and no maps of its own
    for the fading path.
    """

    family: ClassVar[Family] = "hierarchical memory"
    small: ClassVar[Mapping[str, Any]] = {
        "window": 4,
        "memory": GatedDeltaNetConfig(num_heads=2, chunk_size=8),
    }

    num_heads: int = 4
    head_size: int | None = None
    """Size of each head's queries, keys and values; None: width / num_heads."""
    window: int = 64
    """Number of tokens that a token sees exactly, itself included, and number of
    fading tokens that it sees; published: 2048."""
    rotary_base: float | None = 10000.0
    """Base of the rotary position embedding; None: no positions."""
    memory: LayerConfig = field(default_factory=GatedDeltaNetConfig)
    """Config of the layer whose outputs are the fading tokens."""

    def __post_init__(self) -> None:
        check_positive("window", self.window)
        if self.rotary_base is not None:
            check_rotary_base(self.rotary_base)

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "BMojo":
        return BMojo(self, width, rngs, layer_index, depth)


class BMojoState(NamedTuple):
    """State of `BMojo`.

    Attributes:
        memory: state of the layer that makes the fading tokens.
        window: keys and values of the last tokens.
        fading: keys and values of the last fading tokens, twice as many.
        position: number of tokens of the document so far.
    """

    memory: Any
    window: KeyValueCache
    fading: KeyValueCache
    position: Int[Array, "b"]


class BMojo(MemoryLayer[BMojoState]):
    """See `BMojoConfig`."""

    state_growth = "bounded"

    def __init__(
        self,
        config: BMojoConfig,
        width: int,
        rngs: nnx.Rngs,
        layer_index: int | Array,
        depth: int,
    ):
        heads = config.num_heads
        self.config = config
        self.head_size = resolve_head_size(width, heads, config.head_size)
        if config.rotary_base is not None:
            check_even("head_size", self.head_size, "rotary positions rotate pairs")
        # Fading tokens are not added to the residual stream, whatever the depth.
        self.memory: MemoryLayer = config.memory.build(
            width, rngs, layer_index=layer_index, depth=1
        )
        if self.memory.state_growth not in ("constant", "bounded"):
            self.state_growth = self.memory.state_growth
        inner = heads * self.head_size
        self.query, self.key, self.value = (
            Stream(width, inner, heads, rngs) for _ in range(3)
        )
        self.read_out = ReadOut(inner, width, rngs, depth=depth)

    def init_state(self, batch_size: int, max_length: int) -> BMojoState:
        heads, size = self.config.num_heads, self.head_size
        window, fading = (
            init_cache(batch_size, min(slots, max_length), heads, size, size)
            for slots in (self.config.window, 2 * self.config.window)
        )
        memory = self.memory.init_state(batch_size, max_length)
        return BMojoState(memory, window, fading, jnp.zeros((batch_size,), jnp.int32))

    def fresh_rows(self, state: BMojoState, rows: Bool[Array, "b"]) -> BMojoState:
        # At position 0 no slot is visible, so the caches need not be cleared.
        return state._replace(
            memory=self.memory.fresh_rows(state.memory, rows),
            position=jnp.where(rows, 0, state.position),
        )

    def capacity(self, state: BMojoState) -> int | None:
        slots = state.fading.key.shape[-3]
        ours = None if slots >= 2 * self.config.window else slots
        return smallest_capacity([ours, self.memory.capacity(state.memory)])

    def sequence(
        self, x: Float[Array, "b t d"], state: BMojoState, layout: Layout
    ) -> tuple[Float[Array, "b t d"], BMojoState]:
        time = x.shape[1]
        place, position = layout.positions(state.position, time)
        segment = layout.segments(time)
        if segment is None:
            segment = jnp.zeros_like(place)
        faded, memory = self.memory.sequence(x, state.memory, layout)
        made = [self._key_value(tokens, place) for tokens in (x, faded)]
        caches = (state.window, state.fading)
        sources = []
        for cache, (key, value) in zip(caches, made, strict=True):
            slots = cache.key.shape[1]
            held = held_positions(slots, state.position) if slots else place[:, :0]
            call = (key, value, place, segment)
            sources.append(_joined(_carried(cache, held), call))
        o = self._attend(x, place, segment, sources)
        window, fading = (
            extend_cache(cache, key, value, position, layout)
            for cache, (key, value) in zip(caches, made, strict=True)
        )
        return self.read_out(o, x), BMojoState(memory, window, fading, position)

    def token(
        self, x: Float[Array, "b d"], state: BMojoState
    ) -> tuple[Float[Array, "b d"], BMojoState]:
        faded, memory = self.memory.token(x, state.memory)
        x, place, after = x[:, None, :], state.position[:, None], state.position + 1
        zero = jnp.zeros_like(place)
        sources, caches = [], []
        for cache, tokens in ((state.window, x), (state.fading, faded[:, None])):
            key, value = self._key_value(tokens, place)
            if cache.key.shape[1]:
                cache = extend_cache_token(cache, key[:, 0], value[:, 0], place[:, 0])
                held = held_positions(cache.key.shape[1], after)
                sources.append(_carried(cache, held))
            else:
                sources.append((key, value, place, zero))
            caches.append(cache)
        o = self._attend(x, place, zero, sources)
        window, fading = caches
        return self.read_out(o, x)[:, 0], BMojoState(memory, window, fading, after)

    def _key_value(
        self, tokens: Float[Array, "b t d"], place: Int[Array, "b t"]
    ) -> tuple[Float[Array, "b t h k"], Float[Array, "b t h k"]]:
        key, value = (
            split_heads(stream.project(tokens), self.config.num_heads)
            for stream in (self.key, self.value)
        )
        return self._placed(key, place), value

    def _placed(
        self, x: Float[Array, "b t h k"], place: Int[Array, "b t"]
    ) -> Float[Array, "b t h k"]:
        base = self.config.rotary_base
        return x if base is None else rotary(x, place, base=base)

    def _attend(
        self,
        x: Float[Array, "b t d"],
        place: Int[Array, "b t"],
        segment: Int[Array, "b t"],
        sources: list[tuple[Array, Array, Array, Array]],
    ) -> Float[Array, "b t h k"]:
        """Attend to tokens and fading tokens, given as key, value, position, segment.

        A fading token counts as `window` positions later: the window then shows those
        that are behind the window of tokens.
        """
        query = split_heads(self.query.project(x), self.config.num_heads)
        tokens, (key, value, position, of) = sources
        shifted = (key, value, position + self.config.window, of)
        key, value, position, of = _joined(tokens, shifted)
        return attention(
            self._placed(query, place),
            key.astype(x.dtype),
            value.astype(x.dtype),
            window=self.config.window,
            query_position=place,
            query_segment=segment,
            key_position=position,
            key_segment=of,
        )


def _carried(
    cache: KeyValueCache, held: Int[Array, "b s"]
) -> tuple[Array, Array, Array, Array]:
    """Return the slots of a cache; those without a token have a hidden segment."""
    return cache.key, cache.value, held, jnp.where(held >= 0, 0, -1)


def _joined(
    first: tuple[Array, Array, Array, Array], second: tuple[Array, Array, Array, Array]
) -> tuple[Array, Array, Array, Array]:
    """Return keys, values, positions and segments one after the other."""
    key, value, position, segment = (
        jnp.concatenate([a.astype(b.dtype), b], axis=1)
        for a, b in zip(first, second, strict=True)
    )
    return key, value, position, segment
