"""Layers with a memory that is written at keys and read by queries."""

import abc
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from memzoo.errors import InputError

from .interface import Layout, MemoryLayer
from .memory_inputs import MemoryInputs
from .ops.recurrence import Recurrence, identity_tokens
from .prefix import insert_prefixes
from .read_out import ReadOut
from .streams import Tails, init_tails, run_streams, streams_of


class AssociativeState(NamedTuple):
    """State of an `AssociativeMemory`.

    Attributes:
        memory: any tree of arrays, batch first, float32.
        tails: last inputs of each short convolution, float32.
        position: number of tokens of the document so far.
    """

    memory: PyTree[Array]
    tails: Tails
    position: Int[Array, "b"]


class AssociativeMemory(MemoryLayer[AssociativeState]):
    """A memory that is written at keys and read by queries.

    Layers that hold other memories (a mixture, say) use the methods of this class and
    nothing else. `MatrixMemory` and `NeuralMemoryLayer` implement most of them.

    The default `init_tails` and `output` suit a layer with the streams `query`, `key`
    and `value` and with a `read_out`; other layers override them.
    """

    read_out: ReadOut

    config: Any
    """The layer's config; its `chunk_size` is read here."""
    tails_of_copies: ClassVar[frozenset[str]] = frozenset({"key", "value"})
    """Names of the tails that each memory of a mixture copies; it shares the others.
    Parameters are marked by the type `PerMemory` instead."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.accepts_prefix and cls.prefix_inputs is AssociativeMemory.prefix_inputs:
            raise TypeError(cls._no_prefix_inputs())

    @abc.abstractmethod
    def init_memory(self, batch_size: int) -> PyTree[Array]:
        """Return the memory before the first token."""

    def init_tails(self, batch_size: int) -> Tails:
        """Return the tails of the short convolutions before the first token."""
        return init_tails(streams_of(self), batch_size)

    def streams(
        self, x: Float[Array, "b t d"], tails: Tails, layout: Layout
    ) -> tuple[tuple[Array, Array, Array], Tails]:
        """Return queries, keys and values of the tokens, and the new tails."""
        return run_streams(streams_of(self), x, tails, layout)

    @abc.abstractmethod
    def inputs(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        """Return the inputs of the memory for these tokens, and the new tails."""

    @abc.abstractmethod
    def write_and_read(
        self,
        inputs: MemoryInputs,
        memory: PyTree[Array],
        reset: Bool[Array, "b t"] | None,
    ) -> tuple[Float[Array, "b t h v"], PyTree[Array]]:
        """Write every token and read after its write, in the fast form."""

    @abc.abstractmethod
    def write_and_read_token(
        self, inputs: MemoryInputs, memory: PyTree[Array]
    ) -> tuple[Float[Array, "b 1 h v"], PyTree[Array]]:
        """Write and read one token per row, t = 1, in the recurrent form."""

    @abc.abstractmethod
    def read(
        self, query: Float[Array, "b t h k"], memory: PyTree[Array]
    ) -> Float[Array, "b t h v"]:
        """Read without writing."""

    def output(
        self, read: Float[Array, "b t h v"], x: Float[Array, "b t d"]
    ) -> Float[Array, "b t d"]:
        """Return the layer's output, from the read and the layer's input."""
        return self.read_out(read, x)

    @abc.abstractmethod
    def write_prefix_and_read(
        self,
        prefix: Bool[Array, "b t"],
        written: MemoryInputs,
        inputs: MemoryInputs,
        memory: PyTree[Array],
        reset: Bool[Array, "b t"] | None,
    ) -> tuple[Float[Array, "b t h v"], PyTree[Array]]:
        """Write each document's prefix first, then write and read all tokens.

        Args:
            prefix: True for tokens of a prefix.
            written: inputs of the prefix, from `prefix_inputs`.
            inputs: inputs of all tokens, written and read after the prefix.
            memory: memory before the first token.
            reset: True where a document begins.
        """

    def prefix_inputs(
        self, x: Float[Array, "b t d"], inputs: MemoryInputs, layout: Layout
    ) -> MemoryInputs:
        """Return the inputs that a prefix writes before its document's first token.

        Only layers that accept a prefix define this method. Its queries are not used.

        Args:
            x: the layer's input.
            inputs: inputs of the same tokens in the causal pass.
            layout: layout of the rows.

        Raises:
            TypeError: the layer accepts a prefix and lacks this method.
        """
        raise TypeError(self._no_prefix_inputs())

    def why_not_several(self) -> str | None:
        """Return why a layer cannot hold several of this memory; None if it can.

        The reason follows the class name in a message and ends with the remedy.
        """
        if self.accepts_prefix:
            return (
                "reads prefixes, but a mixture reads tokens causally; "
                f"{self._without_prefix()}"
            )
        return None

    def _without_prefix(self) -> str:
        return "choose another layer"

    @property
    def packs_several(self) -> bool:
        """Whether `write_and_read_several` is implemented."""
        return False

    def chunk_size_of_several(self, time: int) -> int:
        """Return the chunk size for `write_and_read_several`, in tokens."""
        raise InputError(self._no_several())

    def _no_several(self) -> str:
        return (
            f"{type(self).__name__} has no form for several memories per row; write "
            "them as rows"
        )

    def write_and_read_several(
        self,
        inputs: MemoryInputs,
        memories: PyTree[Array],
        which: Int[Array, "b n"],
        reset: Bool[Array, "b t"] | None,
        chunk_size: int,
    ) -> tuple[Float[Array, "b t h v"], PyTree[Array]]:
        """Write and read with several memories per row, `b m ...`.

        Args:
            inputs: inputs of the tokens.
            memories: memories before the first token.
            which: index of the memory of each chunk.
            reset: True where a document begins.
            chunk_size: tokens per chunk.

        Raises:
            InputError: the layer has no such form.
        """
        del inputs, memories, which, reset, chunk_size
        raise InputError(self._no_several())

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
            read, memory = self.write_prefix_and_read(
                prefix, written, inputs, state.memory, layout.reset
            )
        _, position = layout.positions(state.position, x.shape[1])
        y = self.finish(read, inputs, x)
        return y, AssociativeState(memory, tails, position)

    def token(
        self, x: Float[Array, "b d"], state: AssociativeState
    ) -> tuple[Float[Array, "b d"], AssociativeState]:
        x = x[:, None, :]
        inputs, tails = self.inputs(x, state, Layout())
        read, memory = self.write_and_read_token(inputs, state.memory)
        y = self.finish(read, inputs, x)[:, 0]
        return y, AssociativeState(memory, tails, state.position + 1)

    def finish(
        self,
        read: Float[Array, "b t h v"],
        inputs: MemoryInputs,
        x: Float[Array, "b t d"],
    ) -> Float[Array, "b t d"]:
        """Return the layer's output; a mixture calls `output` instead.

        Args:
            read: read of the memory.
            inputs: inputs of the memory for these tokens.
            x: the layer's input.
        """
        if inputs.skip is not None:
            read = read + inputs.skip.astype(read.dtype)
        return self.output(read.astype(x.dtype), x)

    @classmethod
    def _no_prefix_inputs(cls) -> str:
        return (
            f"{cls.__name__} accepts a prefix but has no prefix_inputs; "
            "define prefix_inputs, or leave accepts_prefix False"
        )


class MatrixMemory(AssociativeMemory):
    """A memory of one or more matrices per head, written by a `Recurrence`.

    A layer implements `init_memory` and `inputs`, and overrides other methods of
    `AssociativeMemory` where its parts differ.
    """

    rule: ClassVar[Recurrence[Any, Any]]

    def _chunk_size(self) -> int | None:
        config: Any = getattr(self, "config", None)
        if not hasattr(config, "chunk_size"):
            raise TypeError(
                f"{type(self).__name__} needs self.config with a field chunk_size; "
                "set it in __init__"
            )
        return config.chunk_size

    def write_and_read(
        self,
        inputs: MemoryInputs,
        memory: PyTree[Array],
        reset: Bool[Array, "b t"] | None,
    ) -> tuple[Float[Array, "b t h v"], PyTree[Array]]:
        return self.rule.chunkwise(
            inputs.tokens,
            memory,
            reset=reset,
            valid=inputs.valid,
            chunk_size=self._chunk_size(),
        )

    def write_and_read_token(
        self, inputs: MemoryInputs, memory: PyTree[Array]
    ) -> tuple[Float[Array, "b 1 h v"], PyTree[Array]]:
        return self.rule.token(inputs.tokens, memory)

    def read(
        self, query: Float[Array, "b t h k"], memory: PyTree[Array]
    ) -> Float[Array, "b t h v"]:
        return jnp.einsum("bthk,bhkv->bthv", query.astype(memory.dtype), memory)

    def write_prefix_and_read(
        self,
        prefix: Bool[Array, "b t"],
        written: MemoryInputs,
        inputs: MemoryInputs,
        memory: PyTree[Array],
        reset: Bool[Array, "b t"] | None,
    ) -> tuple[Float[Array, "b t h v"], PyTree[Array]]:
        if reset is None:
            # One document per row: its prefix is written into the initial memory.
            tokens = identity_tokens(written.tokens, prefix)
            memory = self.rule.write(tokens, memory, chunk_size=self._chunk_size())
            return self.write_and_read(inputs, memory, None)
        longer, reset, place = insert_prefixes(written, inputs, prefix, reset)
        read, memory = self.write_and_read(longer, memory, reset)
        return jnp.take_along_axis(read, place[:, :, None, None], axis=1), memory

    def _without_prefix(self) -> str:
        optional = getattr(self.config, "prefix", False)
        return "set prefix to False" if optional else super()._without_prefix()

    @property
    def packs_several(self) -> bool:
        return True

    def chunk_size_of_several(self, time: int) -> int:
        return self.rule.resolve_chunk_size(self._chunk_size(), time)

    def write_and_read_several(
        self,
        inputs: MemoryInputs,
        memories: PyTree[Array],
        which: Int[Array, "b n"],
        reset: Bool[Array, "b t"] | None,
        chunk_size: int,
    ) -> tuple[Float[Array, "b t h v"], PyTree[Array]]:
        return self.rule.chunkwise(
            inputs.tokens,
            memories,
            reset=reset,
            valid=inputs.valid,
            chunk_size=chunk_size,
            which=which,
        )
