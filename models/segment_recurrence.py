"""Segment recurrence: blocks read a document by segments, and memory links these."""

import abc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from memzoo.errors import InputError

from .attention import AttentionConfig
from .block import Block, Group, StackConfig, auxiliary
from .capacity import smallest_capacity
from .interface import AuxiliaryLoss, Layout, MemoryLayer, Metric, SequenceInfo
from .layer_checks import check_positive
from .layer_config import Family, LayerConfig, RegisteredConfig
from .layout import pack
from .loss import Auxiliary
from .ops.recurrence import select
from .ops.windows import Part, window_scan
from .projection import RMSNorm
from .segment_association import SegmentAssociation


def one_attention() -> tuple[LayerConfig, ...]:
    """Return the usual inner layers: one attention."""
    return (AttentionConfig(),)


@dataclass(frozen=True, kw_only=True)
class SegmentConfig(RegisteredConfig):
    """Fields that all segment-recurrent layers share."""

    family: ClassVar[Family] = "hierarchical memory"

    layers: tuple[LayerConfig, ...] = field(default_factory=one_attention)
    """Layers of the inner residual blocks, first to last."""
    mlp_width: int = 0
    """Hidden width of each inner block's SwiGLU; 0: no MLP."""
    segment_size: int = 64
    """Tokens per segment; changes the result."""
    norm_epsilon: float = 1e-5
    """Epsilon of the norms of blocks and memory: added to the mean square. Layers have
    their own."""

    def __post_init__(self) -> None:
        if not self.layers:
            raise InputError("layers is empty; give at least one layer config")
        check_positive("segment_size", self.segment_size)
        self.stack(1)  # Check the layers, the MLP and the epsilon.

    def stack(self, depth: int) -> StackConfig:
        """Return the config of the inner blocks, in a model of `depth` outer blocks."""
        return StackConfig(
            # Repeats count the blocks of the whole model, which set initial scales.
            pattern=(Group(layers=self.layers, repeats=depth),),
            mlp_width=self.mlp_width,
            norm_epsilon=self.norm_epsilon,
        )

    def check_tokens(self, name: str) -> None:
        """Raise InputError if the named number of tokens is negative."""
        if getattr(self, name) < 0:
            raise InputError(f"{name} is {getattr(self, name)}; give 0 (none) or more")


class SegmentsState(NamedTuple):
    """State of a `SegmentRecurrence`.

    Attributes:
        blocks: state of each inner layer after the segment so far.
        memory: tokens that the current segment reads.
        associations: associative memory of each inner block; empty if it has none.
        position: number of tokens of the document so far.
    """

    blocks: tuple[Any, ...]
    memory: Float[Array, "b m d"]
    associations: tuple[Float[Array, "b h k v"], ...]
    position: Int[Array, "b"]


class Carry(NamedTuple):
    """Values that pass from segment to segment.

    Attributes:
        parts: sums of the inner layers' auxiliary losses.
        number: count of the segments so far, for random keys.
    """

    blocks: tuple[Any, ...]
    memory: Float[Array, "b m d"]
    associations: tuple[Array, ...]
    parts: tuple[Auxiliary, ...]
    number: Int[Array, ""]


class SegmentRecurrence(MemoryLayer[SegmentsState]):
    """Inner blocks over the segments of a document, linked by memory tokens.

    The blocks start every segment with new states. They read the memory tokens, the
    tokens of the segment, and the write tokens, causally. The write tokens run once the
    segment is complete; their outputs enter the memory of the next segment. The output
    for a token is what the blocks add to it.

    A subclass says which memory tokens exist and how they change.
    """

    def __init__(
        self,
        config: SegmentConfig,
        width: int,
        rngs: nnx.Rngs,
        layer_index: int | Array,
        depth: int,
    ):
        self.config = config
        stack, count = config.stack(depth), len(config.layers)
        self.blocks = nnx.List(
            [
                Block(layer, stack, width, rngs, layer_index * count + place)
                for place, layer in enumerate(config.layers)
            ]
        )
        self.associations: nnx.List[SegmentAssociation] = nnx.List([])
        constant = all(b.mixer.state_growth == "constant" for b in self.blocks)
        self.state_growth = "constant" if constant else "bounded"
        self.width = width

    @abc.abstractmethod
    def new_memory(self, batch_size: int) -> Float[Array, "b m d"]:
        """Return the memory tokens of a new document, in float32."""

    @abc.abstractmethod
    def readable(self, finished: Int[Array, "b"]) -> Bool[Array, "b m"]:
        """Return a mask of the memory tokens after this many complete segments."""

    @abc.abstractmethod
    def write_tokens(self, memory: Float[Array, "b m d"]) -> Float[Array, "b n d"]:
        """Return the tokens to read at the end of a segment."""

    @abc.abstractmethod
    def updated(
        self, memory: Float[Array, "b m d"], written: Float[Array, "b n d"]
    ) -> Float[Array, "b m d"]:
        """Return the next segment's memory from the outputs of the write tokens."""

    def init_state(self, batch_size: int, max_length: int) -> SegmentsState:
        memory = self.new_memory(batch_size)
        # In a single call no segment is continued, so caches may stay empty.
        return SegmentsState(
            blocks=self._new_blocks(memory, max_length > 0),
            memory=memory,
            associations=self._new_associations(batch_size),
            position=jnp.zeros((batch_size,), jnp.int32),
        )

    def _new_blocks(
        self, memory: Float[Array, "b m d"], continued: bool
    ) -> tuple[Any, ...]:
        """Return the inner layers' states before a segment."""
        tokens = memory.shape[1] + self.write_tokens(memory).shape[1]
        room = tokens + self.config.segment_size if continued else 0
        rows = memory.shape[0]
        return tuple(block.mixer.init_state(rows, room) for block in self.blocks)

    def _new_associations(self, batch_size: int) -> tuple[Array, ...]:
        return tuple(each.new_memory(batch_size) for each in self.associations)

    def fresh_rows(self, state: SegmentsState, rows: Bool[Array, "b"]) -> SegmentsState:
        fresh = self.new_memory(rows.shape[0])
        empty = self._new_associations(rows.shape[0])
        return SegmentsState(
            # A document's first token begins a segment, which resets the blocks.
            blocks=state.blocks,
            memory=select(rows, fresh, state.memory),
            associations=select(rows, empty, state.associations),
            position=jnp.where(rows, 0, state.position),
        )

    def choose_rows(
        self, rows: Bool[Array, "b"], chosen: SegmentsState, other: SegmentsState
    ) -> SegmentsState:
        blocks = self._choose_blocks(rows, chosen.blocks, other.blocks)
        plain = select(rows, chosen[1:], other[1:])
        return SegmentsState(blocks, *plain)

    def _choose_blocks(
        self, rows: Bool[Array, "b"], chosen: tuple[Any, ...], other: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        each = zip(self.blocks, chosen, other, strict=True)
        return tuple(block.mixer.choose_rows(rows, a, b) for block, a, b in each)

    def capacity(self, state: SegmentsState) -> int | None:
        each = zip(self.blocks, state.blocks, strict=True)
        inner = smallest_capacity(b.mixer.capacity(held) for b, held in each)
        # Otherwise a segment fits, and so does any number of segments.
        return 0 if inner == 0 else None

    def sequence(
        self, x: Float[Array, "b t d"], state: SegmentsState, layout: Layout
    ) -> tuple[Float[Array, "b t d"], SegmentsState]:
        time, size = x.shape[1], self.config.segment_size
        if time == 0:
            return x, state
        place, position = layout.positions(state.position, time)
        graphdef, arrays = nnx.split(self)

        def body(carry: Carry, x: Array, part: Part) -> tuple[Carry, Array]:
            # Close over the layer's arrays: the scan rematerialises its body.
            layer = nnx.merge(graphdef, arrays)
            key = layout.with_own_key(carry.number).key
            return layer._segment(carry, x, part, key)

        parts = self._empty_parts(body, x, state)
        y, carry = window_scan(
            body,
            Carry(*state[:3], parts, jnp.int32(0)),
            x,
            place=place,
            update_every=size,
            chunk_size=size,
            reset=layout.reset,
            valid=layout.valid(time),
            # A state for one call begins with a document, and so with a segment.
            aligned=self.capacity(state) == 0,
        )
        if parts:
            of = _SumOf(tuple(part.of for part in parts))
            sums = tuple(part.sums for part in carry.parts)
            self.inner_loss = AuxiliaryLoss(sums, of=of)
        return y, SegmentsState(*carry[:3], position)

    def _empty_parts(
        self, body: Callable[..., Any], x: Float[Array, "b t d"], state: SegmentsState
    ) -> tuple[Auxiliary, ...]:
        """Return zero sums for the auxiliary losses that the blocks report."""
        rows = x.shape[0]
        one = Part(
            jnp.ones((rows, 1), bool),
            jnp.zeros((rows, 1), jnp.int32),
            jnp.ones((rows,), bool),
            None,
        )
        carry = Carry(*state[:3], (), jnp.int32(0))
        found = jax.eval_shape(body, carry, x[:, :1], one)[0].parts
        return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), found)

    def token(
        self, x: Float[Array, "b d"], state: SegmentsState
    ) -> tuple[Float[Array, "b d"], SegmentsState]:
        size = self.config.segment_size
        opens = state.position % size == 0
        closes = (state.position + 1) % size == 0
        graphdef, arrays = nnx.split(self)

        def with_memory_tokens(x: Array, held: tuple[Any, ...]) -> Any:
            layer = nnx.merge(graphdef, arrays)
            part = Part(
                jnp.ones((x.shape[0], 1), bool), state.position[:, None], opens, None
            )
            blocks, memory, association = held
            carry = Carry(blocks, memory, association, (), jnp.int32(0))
            carry, y = layer._segment(carry, x[:, None], part, None)
            return y[:, 0], carry[:3]

        def inside(x: Array, held: tuple[Any, ...]) -> Any:
            layer = nnx.merge(graphdef, arrays)
            h, blocks = x, []
            for number, block in enumerate(layer.blocks):
                h = layer._with_association(h[:, None], number, held[2])[:, 0]
                h, after = block.token(h, held[0][number])
                blocks.append(after)
            return h - x, (tuple(blocks), *held[1:])

        y, (blocks, memory, association) = jax.lax.cond(
            jnp.any(jnp.logical_or(opens, closes)),
            with_memory_tokens,
            inside,
            x,
            tuple(state[:3]),
        )
        after = state.position + 1
        return y, SegmentsState(blocks, memory, association, after)

    def _segment(
        self, carry: Carry, x: Float[Array, "b c d"], part: Part, key: Any
    ) -> tuple[Carry, Float[Array, "b c d"]]:
        """Map the part of a segment that lies in this call.

        Rows whose segment begins here first read the memory, and rows whose segment
        ends here also read the write tokens: one call of the blocks does it all.
        """
        size, time = self.config.segment_size, x.shape[1]
        memory, held = carry.memory, carry.associations
        if part.fresh is not None:
            rows = part.fresh.shape[0]
            memory = select(part.fresh, self.new_memory(rows), memory)
            held = select(part.fresh, self._new_associations(rows), held)
        written = self.write_tokens(memory)
        last = part.valid & (part.place % size == size - 1)
        closes = jnp.any(last, axis=1)
        finished = jnp.max(jnp.where(part.valid, part.place, 0), axis=1) // size
        joined = [memory.astype(x.dtype), x, written.astype(x.dtype)]
        masks = [
            self.readable(finished) & part.opens[:, None],
            part.valid,
            jnp.broadcast_to(closes[:, None], written.shape[:2]),
        ]
        info = SequenceInfo(key=key)
        h, layout, order = pack(
            jnp.concatenate(joined, axis=1), info, jnp.concatenate(masks, axis=1)
        )
        back = jnp.argsort(order, axis=1)[:, :, None]
        fresh = self._new_blocks(memory, self._continues(carry.blocks))
        blocks = self._choose_blocks(part.opens, fresh, carry.blocks)
        after, associations, parts = [], [], ()
        for number, block in enumerate(self.blocks):
            h = self._with_association(h, number, held)
            h, state = block.sequence(h, blocks[number], layout.with_own_key(number))
            after.append(state)
            parts += _popped(block)
            if self.associations:
                tokens = jnp.take_along_axis(h, back, axis=1)[:, -written.shape[1] :]
                new = self.associations[number].written(held[number], tokens)
                associations.append(select(closes, new, held[number]))
        h = jnp.take_along_axis(h, back, axis=1)
        first = memory.shape[1]
        y = h[:, first : first + time] - x
        new = self.updated(memory, h[:, first + time :]).astype(memory.dtype)
        if carry.parts:
            parts = jax.tree.map(jnp.add, carry.parts, parts)
        memory = select(closes, new, memory)
        number = carry.number + 1
        return Carry(tuple(after), memory, tuple(associations), parts, number), y

    def _continues(self, blocks: tuple[Any, ...]) -> bool:
        """Return whether the states have room for a segment in several calls."""
        each = zip(self.blocks, blocks, strict=True)
        return smallest_capacity(b.mixer.capacity(held) for b, held in each) != 0

    def _with_association(
        self, h: Float[Array, "b t d"], number: int, held: tuple[Array, ...]
    ) -> Float[Array, "b t d"]:
        """Add to the input of a block what its associative memory holds for it."""
        if not self.associations:
            return h
        return h + self.associations[number].read(held[number], h)


@dataclass(frozen=True)
class _SumOf:
    """Sum of several auxiliary losses, each a function of its sums."""

    functions: tuple[Callable[[Any], Array], ...]

    def __call__(self, sums: tuple[Any, ...]) -> Array:
        each = zip(self.functions, sums, strict=True)
        return sum((of(part) for of, part in each), jnp.zeros((), jnp.float32))


def _popped(block: Block) -> tuple[Auxiliary, ...]:
    """Return and clear the auxiliary losses of a block; drop its metrics."""
    nnx.pop(block, Metric)
    return auxiliary(nnx.pop(block, AuxiliaryLoss))


def segment_norm(config: SegmentConfig, width: int, tokens: int) -> RMSNorm | None:
    """Return the norm of what write tokens hand on; None without such tokens."""
    return RMSNorm(width, config.norm_epsilon) if tokens else None
