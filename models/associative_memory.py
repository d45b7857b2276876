"""Layers whose memory is a matrix a head: write a value at a key, read by a query."""

import abc
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from .interface import Layout, MemoryLayer
from .memory_inputs import MemoryInputs
from .prefix import insert_prefixes
from .projection import ShortConvolution, projection, split_heads
from .update_rules import UpdateRule

Tails = tuple[Float[Array, "b _ _"], ...]


class StreamTails(NamedTuple):
    """Tails of the short convolutions on queries, keys and values."""

    query: Float[Array, "b _ _"]
    key: Float[Array, "b _ _"]
    value: Float[Array, "b _ _"]


class AssociativeState(NamedTuple):
    """State of an `AssociativeMemory`.

    Attributes:
        memory: the matrix of each head, float32.
        tails: last inputs of each short convolution, float32.
        position: tokens of the document so far.
    """

    memory: Float[Array, "b h k v"]
    tails: Tails
    position: Int[Array, "b"]


class AssociativeMemory(MemoryLayer[AssociativeState]):
    """A matrix memory. Other layers hold one through these four methods alone:
    `inputs`, `write_and_read`, `read` and `output`."""

    rule: ClassVar[UpdateRule]
    own: ClassVar[frozenset[str]] = frozenset(
        {"key", "value", "write_strength", "decay", "time"}
    )
    """Maps of which each memory of a mixture has its own; queries are never theirs."""
    config: Any
    """The layer's config; its `chunk_size` is read here."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.accepts_prefix and cls.prefix_inputs is AssociativeMemory.prefix_inputs:
            raise TypeError(cls._unwritten())

    @abc.abstractmethod
    def init_memory(self, batch_size: int) -> Float[Array, "b h k v"]:
        """The memory before the first token."""

    @abc.abstractmethod
    def init_tails(self, batch_size: int) -> Tails:
        """The short convolutions' tails before the first token."""

    @abc.abstractmethod
    def inputs(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        """Queries, keys, values and gates of the tokens, and the new tails."""

    @abc.abstractmethod
    def output(
        self, read: Float[Array, "b t h v"], x: Float[Array, "b t d"]
    ) -> Float[Array, "b t d"]:
        """From what was read, and the layer's input, to the layer's output."""

    def write_and_read(
        self,
        inputs: MemoryInputs,
        memory: Float[Array, "b h k v"],
        reset: Bool[Array, "b t"] | None,
    ) -> tuple[Float[Array, "b t h v"], Float[Array, "b h k v"]]:
        """Write every token and read after its write, in the fast form."""
        return self.rule.sequence(inputs, memory, reset, self.config.chunk_size)

    def write_and_read_several(
        self,
        inputs: MemoryInputs,
        memories: Float[Array, "b m h k v"],
        which: Int[Array, "b n"],
        reset: Bool[Array, "b t"] | None,
        chunk_size: int,
    ) -> tuple[Float[Array, "b t h v"], Float[Array, "b m h k v"]]:
        """The same with several memories a row, each chunk for the one that it names.

        Raises:
            ValueError: the layer's rule has no such form.
        """
        if self.rule.several is None:
            raise ValueError(
                f"{type(self).__name__} writes by a rule that has no form for several "
                "memories a row; write them as rows of their own"
            )
        return self.rule.several(inputs, memories, which, reset, chunk_size)

    def write_and_read_token(
        self, inputs: MemoryInputs, memory: Float[Array, "b h k v"]
    ) -> tuple[Float[Array, "b t h v"], Float[Array, "b h k v"]]:
        """The same for one token a row (t = 1), in the recurrent form."""
        return self.rule.token(inputs, memory)

    def prefix_inputs(
        self, x: Float[Array, "b t d"], inputs: MemoryInputs, layout: Layout
    ) -> MemoryInputs:
        """What tokens write before their document's first one if they are its prefix.

        Only of layers that accept a prefix; queries are not read.

        Args:
            inputs: what the same tokens write and read in their turn.

        Raises:
            TypeError: the layer says that it accepts a prefix, and not what it writes.
        """
        raise TypeError(self._unwritten())

    @classmethod
    def _unwritten(cls) -> str:
        return (
            f"{cls.__name__} accepts a prefix and does not say what that writes; "
            "define prefix_inputs, or leave accepts_prefix False"
        )

    def _write_and_read_behind(
        self,
        prefix: Bool[Array, "b t"],
        written: MemoryInputs,
        inputs: MemoryInputs,
        memory: Float[Array, "b h k v"],
        reset: Bool[Array, "b t"] | None,
    ) -> tuple[Float[Array, "b t h v"], Float[Array, "b h k v"]]:
        """`write_and_read`, once the prefix of every document is written before it."""
        written = written.only(prefix)
        if reset is None:
            # One document a row: its prefix makes the memory that it begins with.
            memory = self.rule.write(written, memory, self.config.chunk_size)
            return self.write_and_read(inputs, memory, None)
        longer, reset, place = insert_prefixes(written, inputs, prefix, reset)
        read, memory = self.write_and_read(longer, memory, reset)
        return jnp.take_along_axis(read, place[:, :, None, None], axis=1), memory

    def read(
        self, query: Float[Array, "b t h k"], memory: Float[Array, "b h k v"]
    ) -> Float[Array, "b t h v"]:
        """Read without writing."""
        return jnp.einsum("bthk,bhkv->bthv", query.astype(memory.dtype), memory)

    def init_state(self, batch_size: int, max_length: int) -> AssociativeState:
        del max_length
        return AssociativeState(
            memory=self.init_memory(batch_size),
            tails=self.init_tails(batch_size),
            position=jnp.zeros((batch_size,), jnp.int32),
        )

    def sequence(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[Float[Array, "b t d"], AssociativeState]:
        inputs, tails = self.inputs(x, state, layout)
        inputs = inputs.only(layout.valid(x.shape[1]))
        prefix = layout.prefix_tokens(state.position, x.shape[1])
        if prefix is None:
            read, memory = self.write_and_read(inputs, state.memory, layout.reset)
        else:
            written = self.prefix_inputs(x, inputs, layout)
            read, memory = self._write_and_read_behind(
                prefix, written, inputs, state.memory, layout.reset
            )
        _, position = layout.positions(state.position, x.shape[1])
        y = self._put_out(read, inputs.skip, x)
        return y, AssociativeState(memory, tails, position)

    def token(
        self, x: Float[Array, "b d"], state: AssociativeState
    ) -> tuple[Float[Array, "b d"], AssociativeState]:
        x = x[:, None, :]
        inputs, tails = self.inputs(x, state, Layout())
        read, memory = self.write_and_read_token(inputs, state.memory)
        y = self._put_out(read, inputs.skip, x)[:, 0]
        return y, AssociativeState(memory, tails, state.position + 1)

    def _put_out(
        self,
        read: Float[Array, "b t h v"],
        skip: Float[Array, "b t h v"] | None,
        x: Float[Array, "b t d"],
    ) -> Float[Array, "b t d"]:
        if skip is not None:
            read = read + skip.astype(read.dtype)
        return self.output(read.astype(x.dtype), x)


class QueryKeyValue(nnx.Module):
    """Queries, keys and values by projection, short convolution and SiLU."""

    def __init__(
        self,
        width: int,
        sizes: tuple[int, int, int],
        num_heads: tuple[int, int, int],
        convolution_size: int,
        rngs: nnx.Rngs,
        *,
        activation: bool = True,
    ):
        """Sizes and heads of queries, keys and values; size is of all heads together.

        Args:
            convolution_size: taps of the short convolutions; 0 has none.
            activation: SiLU after the convolution.
        """
        self.query = projection(width, sizes[0], rngs)
        self.key = projection(width, sizes[1], rngs)
        self.value = projection(width, sizes[2], rngs)
        self.num_heads = num_heads
        self.activation = activation
        self.convolutions = convolution_size > 0
        if self.convolutions:
            self.query_convolution = ShortConvolution(sizes[0], convolution_size, rngs)
            self.key_convolution = ShortConvolution(sizes[1], convolution_size, rngs)
            self.value_convolution = ShortConvolution(sizes[2], convolution_size, rngs)

    def init_tails(self, batch_size: int) -> Tails:
        if not self.convolutions:
            return ()
        return StreamTails(
            query=self.query_convolution.init_tail(batch_size),
            key=self.key_convolution.init_tail(batch_size),
            value=self.value_convolution.init_tail(batch_size),
        )

    def __call__(
        self,
        x: Float[Array, "b t d"],
        tails: Tails,
        layout: Layout,
    ) -> tuple[tuple[Array, Array, Array], Tails]:
        streams = [self.query(x), self.key(x), self.value(x)]
        if self.convolutions:
            modules = (
                self.query_convolution,
                self.key_convolution,
                self.value_convolution,
            )
            mixed = [
                convolution(stream, tail, layout)
                for convolution, stream, tail in zip(
                    modules, streams, tails, strict=True
                )
            ]
            streams = [stream for stream, _ in mixed]
            tails = StreamTails(*(tail for _, tail in mixed))
        if self.activation:
            streams = [jax.nn.silu(stream) for stream in streams]
        q, k, v = (
            split_heads(stream, heads)
            for stream, heads in zip(streams, self.num_heads, strict=True)
        )
        return (q, k, v), tails
