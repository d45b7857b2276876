"""The scan over chunks of a sequence."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree

from memzoo.errors import InputError

Memory = TypeVar("Memory")
Form = Literal["auto", "scan", "parallel"]

# (memory, tokens, segment) -> (memory, outputs[, saved])
Forward = Callable[..., tuple[Any, PyTree, PyTree]]
Backward = Callable[..., tuple[Any, PyTree]]


def chunk_scan(
    forward: Forward,
    memory: Memory,
    chunks: PyTree,
    segments: Int[Array, "n b c"] | None,
    which: Int[Array, "b n"] | None = None,
) -> tuple[PyTree, Memory]:
    """Return the outputs of all chunks and the memory after the last.

    The backward pass recomputes each chunk, so that only the memory at every chunk's
    start is stored: time and memory grow linearly with the length.

    Args:
        forward: `(memory, tokens, segment) -> (memory, outputs, saved)`, where leaves
            of tokens and outputs are `b c ...`, and `segment` (int32 `b c`, or None)
            counts the document starts in the chunk; 0 continues the carried memory.
        memory: any tree of arrays, before the first token.
        chunks: any tree of arrays `n b c ...`; see `split_chunks`.
        segments: document starts of each chunk; see `split_segments`.
        which: index of the memory that each chunk reads and writes, if a row has
            several: `memory` is then `b m ...`; a chunk leaves the others unchanged.
    """

    @jax.checkpoint
    def checkpointed(memory: Memory, chunk: PyTree, segment: Array | None):
        return forward(memory, chunk, segment)[:2]

    def choose(memory: Memory, inputs: tuple):
        # Outside the checkpoint, so that only the chunk's own memory is stored.
        chunk, segment, chosen = inputs
        after, outputs = checkpointed(take_memory(memory, chosen), chunk, segment)
        return put_memory(memory, chosen, after), outputs

    inputs = (chunks, segments, None if which is None else which.T)
    memory, outputs = jax.lax.scan(choose, memory, inputs)
    return outputs, memory


def chunk_scan_with_gradient(
    forward: Forward,
    backward: Backward,
    memory: Memory,
    chunks: PyTree,
    segments: Int[Array, "n b c"] | None,
    which: Int[Array, "b n"] | None = None,
) -> tuple[PyTree, Memory]:
    """Return the same as `chunk_scan`, with a hand-written gradient.

    The backward pass uses the memory at the start of every chunk and the arrays that
    `forward` saves.

    Args:
        forward: `(memory, tokens, segment) -> (memory, outputs, saved)`.
        backward: `(memory, tokens, segment, saved, memory_cotangent, output_cotangent)
            -> (memory_cotangent, tokens_cotangent)`, where `memory` and the returned
            cotangent belong to the start of the chunk.
        memory: any tree of arrays, before the first token.
        chunks: any tree of arrays `n b c ...`.
        segments: document starts of each chunk, as in `chunk_scan`.
        which: index of each chunk's memory, as in `chunk_scan`.
    """

    def save(memory: Memory, chunks: PyTree, places: Any):
        def body(memories: Memory, inputs: tuple):
            chunk, (segment, chosen) = inputs
            memory = take_memory(memories, chosen)
            after, outputs, saved = forward(memory, chunk, segment)
            return put_memory(memories, chosen, after), (outputs, (memory, saved))

        memory, (outputs, saved) = jax.lax.scan(body, memory, (chunks, places))
        return (outputs, memory), (chunks, places, saved)

    def pull(residuals: tuple, cotangents: tuple):
        chunks, places, saved = residuals
        outputs, memory = cotangents

        def body(cotangents: Memory, inputs: tuple):
            tokens, (segment, chosen), (memory, saved), outputs = inputs
            cotangent = take_memory(cotangents, chosen)
            before, tokens = backward(
                memory, tokens, segment, saved, cotangent, outputs
            )
            return put_memory(cotangents, chosen, before), tokens

        inputs = (chunks, places, saved, outputs)
        memory, chunks = jax.lax.scan(body, memory, inputs, reverse=True)
        return memory, chunks, None

    @jax.custom_vjp
    def run(memory: Memory, chunks: PyTree, places: Any):
        return save(memory, chunks, places)[0]

    run.defvjp(save, pull)
    return run(memory, chunks, (segments, None if which is None else which.T))


def take_memory(memories: Memory, which: Int[Array, "b"] | None) -> Memory:
    """Return each row's memory `which` of `b m ...`; None: there is one per row."""
    if which is None:
        return memories
    row = jnp.arange(which.shape[0])
    memory = jax.tree.map(lambda a: a[row, which], memories)
    # Read once: if it read again after the write, XLA would copy all memories first.
    return jax.lax.optimization_barrier(memory)


def put_memory(
    memories: Memory, which: Int[Array, "b"] | None, memory: Memory
) -> Memory:
    """Return `memories` with `memory` written back where `take_memory` read it."""
    if which is None:
        return memory
    row = jnp.arange(which.shape[0])

    def put(all_of_row: Array, one: Array) -> Array:
        return all_of_row.at[row, which].set(one, unique_indices=True)

    return jax.tree.map(put, memories, memory)


def split_chunks(tokens: PyTree, chunk_size: int) -> PyTree:
    """Reshape every leaf `b t ...` to `n b c ...`, padded with zeros at the end."""

    def split(x: Array) -> Array:
        batch, time = x.shape[:2]
        num_chunks = -(-time // chunk_size)
        padding = [(0, 0)] * x.ndim
        padding[1] = (0, num_chunks * chunk_size - time)
        x = jnp.pad(x, padding)
        x = x.reshape(batch, num_chunks, chunk_size, *x.shape[2:])
        return jnp.moveaxis(x, 1, 0)

    return jax.tree.map(split, tokens)


def merge_chunks(chunks: PyTree, time: int) -> PyTree:
    """Reshape every leaf `n b c ...` to `b t ...`, the inverse of `split_chunks`."""

    def merge(x: Array) -> Array:
        x = jnp.moveaxis(x, 0, 1)
        x = x.reshape(x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:])
        return x[:, :time]

    return jax.tree.map(merge, chunks)


def split_segments(reset: Bool[Array, "b t"], chunk_size: int) -> Int[Array, "n b c"]:
    """Return the number of document starts in each chunk up to and with each token."""
    return jnp.cumsum(split_chunks(reset, chunk_size), axis=2, dtype=jnp.int32)


def resolve_form(form: str) -> Literal["scan", "parallel"]:
    """Return the form to run: `scan` on a CPU, else `parallel`.

    Raises:
        InputError: the form is unknown.
    """
    if form == "auto":
        return "scan" if jax.default_backend() == "cpu" else "parallel"
    if form not in ("scan", "parallel"):
        raise InputError(f"form is {form!r}; choose auto, scan or parallel")
    return form
