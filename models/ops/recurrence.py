"""A common protocol for memories that are written and read token by token.

An operation supplies a token type, a `step`, and one chunk by matrix products. This
module supplies the token-by-token reference and the chunkwise form.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from memzoo.errors import InputError

from .axes import check_axes, float_array, is_known
from .chunk_scan import (
    Backward,
    Form,
    Forward,
    chunk_scan,
    chunk_scan_with_gradient,
    merge_chunks,
    resolve_form,
    split_chunks,
    split_segments,
)
from .linear_chunk import LinearChunk

Tokens = TypeVar("Tokens", bound=Any)
Memory = TypeVar("Memory")
Several = Int[Array, "b n"]


@dataclass(frozen=True, kw_only=True)
class Recurrence(Generic[Tokens, Memory]):
    """An operation on a memory, in all its forms.

    A token whose fields are zero (except any query) must leave the memory unchanged,
    bit for bit: padding consists of such tokens.

    Attributes:
        tokens: NamedTuple of arrays `b t ...` that the operation takes. Its fields name
            their axes by jaxtyping annotations; the first field is `query`.
        memory_axes: axes of the memory, or a tree of them.
        step: (tokens without their axis t, memory) -> (output, memory).
        chunk: (memory, tokens `b c ...`, segment) -> (memory, outputs, saved); see
            `chunk_scan_with_gradient`.
        chunk_backward: hand-written gradient of `chunk`. None: autodiff through the
            recomputed chunk.
        all_chunks: (tokens `n b c ...`, segments, which, memory) -> (outputs, memory):
            computes everything that is independent of the memory before the scan.
            None: the operation has no such form.
        write_all: (tokens, memory) -> memory, without outputs. Given only if it is
            faster than `chunkwise`.
        linear_chunk: (tokens `b c ...`, segment, dtype) -> `LinearChunk`: the chunk as
            a map of its values and of the memory before it. None: there is none.
        chunk_size: tokens per chunk on a CPU, and elsewhere.
    """

    tokens: type[Tokens]
    memory_axes: PyTree[str] = "b h k v"
    step: Callable[[Tokens, Memory], tuple[Array, Memory]]
    chunk: Forward
    chunk_backward: Backward | None = None
    all_chunks: Callable[..., tuple[Array, Memory]] | None = None
    write_all: Callable[[Tokens, Memory], Memory] | None = None
    linear_chunk: Callable[..., LinearChunk] | None = None
    chunk_size: tuple[int, int] = (32, 64)

    def token(
        self, tokens: Tokens, memory: Memory
    ) -> tuple[Float[Array, "b 1 h v"], Memory]:
        """Write and read one token per row, t = 1, in the recurrent form."""
        output, memory = self.step(jax.tree.map(lambda x: x[:, 0], tokens), memory)
        return output[:, None], memory

    def recurrent(
        self,
        tokens: Tokens,
        memory: Memory | None = None,
        *,
        reset: Bool[Array, "b t"] | None = None,
    ) -> tuple[Float[Array, "b t h v"], Memory]:
        """Write and read token by token: a scan of `step`, the reference.

        Args:
            tokens: tokens of the sequence, `b t ...`.
            memory: memory before the first token; sums have its dtype. None:
                zeros, see `new_memory`.
            reset: True where a document begins: the memory is reset to zero.

        Returns:
            The outputs, and the memory after the last token.

        Raises:
            InputError: an axis of the tokens or of the memory has another length than
                the operation needs.
        """
        memory = self.new_memory(tokens) if memory is None else memory
        check_axes(self.tokens, tokens, self.memory_axes, memory)
        _check_reset(reset, tokens)
        empty = jax.tree.map(jnp.zeros_like, memory)
        return scan_steps(self.step, tokens, memory, reset=reset, initial=empty)

    def __call__(
        self,
        fields: Sequence[Any],
        memory: PyTree | None = None,
        *,
        reset: Bool[Array, "b t"] | None = None,
        chunk_size: int | None = None,
    ) -> tuple[Any, Memory]:
        """Call `chunkwise` with arrays in the order of the token's fields.

        Args:
            fields: arrays that JAX can read; None for a field with a default.
            memory: memory before the first token; None: zeros.
            reset: True where a document begins and the memory restarts at zero.
            chunk_size: tokens per chunk; affects speed only.

        Raises:
            InputError: an array is not one of floats, an axis has two lengths, or,
                outside jit, a decay is above 1.
        """
        names = self.tokens._fields
        tokens = self.tokens(*map(float_array, names, fields))
        memory = jax.tree.map(partial(float_array, "memory"), memory)
        _check_decay(getattr(tokens, "log_decay", None))
        return self.chunkwise(tokens, memory, reset=reset, chunk_size=chunk_size)

    def chunkwise(
        self,
        tokens: Tokens,
        memory: Memory | None = None,
        *,
        reset: Bool[Array, "b t"] | None = None,
        valid: Bool[Array, "b t"] | None = None,
        chunk_size: int | None = None,
        form: Form = "auto",
        which: Several | None = None,
    ) -> tuple[Float[Array, "b t h v"], Memory]:
        """Return what `recurrent` returns, by matrix products over chunks.

        Args:
            tokens: tokens of the sequence, `b t ...`.
            memory: memory before the first token; sums have its dtype. None:
                zeros, see `new_memory`.
            reset: True where a document begins: the memory is reset to zero.
            valid: mask of real tokens; others leave the memory unchanged.
            chunk_size: tokens per chunk; affects speed only. None: chosen for the
                backend.
            form: `scan` does all work inside a scan over chunks; `parallel` first does
                all work that needs no memory. `auto`: chosen for the backend.
            which: index of the memory that each chunk reads and writes, if a row has
                several: `memory` is then `b m ...`, and `chunk_size` is required.

        Raises:
            InputError: an axis of the tokens or of the memory has another length than
                the operation needs; `which` does not name a memory for every chunk.
        """
        memory = self.new_memory(tokens) if memory is None else memory
        check_axes(self.tokens, tokens, self.memory_axes, memory, which is not None)
        _check_reset(reset, tokens)
        if valid is not None:
            tokens = identity_tokens(tokens, valid)
        time = tokens[0].shape[1]
        size = self.resolve_chunk_size(chunk_size, time)
        _check_chunks(which, time, size)
        chunks = split_chunks(tokens, size)
        segments = None if reset is None else split_segments(reset, size)
        if resolve_form(form) == "parallel" and self.all_chunks is not None:
            outputs, memory = self.all_chunks(chunks, segments, which, memory)
        elif self.chunk_backward is not None:
            outputs, memory = chunk_scan_with_gradient(
                self.chunk, self.chunk_backward, memory, chunks, segments, which
            )
        else:
            outputs, memory = chunk_scan(self.chunk, memory, chunks, segments, which)
        return merge_chunks(outputs, time), memory

    def write(
        self, tokens: Tokens, memory: Memory, *, chunk_size: int | None = None
    ) -> Memory:
        """Return the memory after a sequence, without computing outputs."""
        if self.write_all is not None:
            check_axes(self.tokens, tokens, self.memory_axes, memory)
            return self.write_all(tokens, memory)
        return self.chunkwise(tokens, memory, chunk_size=chunk_size)[1]

    def new_memory(self, tokens: Tokens) -> Memory:
        """Return the memory of a new document: zeros, in float32 or a wider type.

        Raises:
            InputError: an axis of the tokens has two lengths, or the memory has an axis
                that no token has and must be given.
        """
        lengths = check_axes(self.tokens, tokens)
        dtype = jnp.result_type(jnp.float32, *jax.tree.leaves(tokens))

        def zeros(axes: str) -> Array:
            for axis in axes.split():
                if axis not in lengths:
                    raise InputError(
                        f"memory is None, and its axis {axis} is not an axis of the "
                        f"tokens; give a memory with the axes `{axes}`"
                    )
            return jnp.zeros([lengths[axis] for axis in axes.split()], dtype)

        return jax.tree.map(zeros, self.memory_axes)

    def resolve_chunk_size(self, chunk_size: int | None, time: int) -> int:
        """Return the chunk size to use, at most `time`.

        Raises:
            InputError: the chunk size is not a whole number above 0.
        """
        if chunk_size is not None and not hasattr(chunk_size, "__index__"):
            raise InputError(f"chunk_size is {chunk_size!r}; give a whole number")
        if chunk_size is None:
            chunk_size = self.chunk_size[jax.default_backend() != "cpu"]
        if chunk_size < 1:
            raise InputError(f"chunk_size is {chunk_size}; give at least 1, or None")
        return min(chunk_size, max(time, 1))


def _check_decay(log_decay: Array | None) -> None:
    """Raise InputError if a known decay lets the memory grow."""
    if log_decay is None or log_decay.size == 0 or not is_known(log_decay):
        return
    with jax.ensure_compile_time_eval():
        most = float(jnp.max(log_decay))
    if most > 0:
        raise InputError(
            f"log_decay is up to {most:.4g}, so the memory would grow; give the "
            "logarithm of a decay, at most 0"
        )


def _check_reset(reset: Any, tokens: Any) -> None:
    """Raise InputError unless `reset` is None or has the axes `b t` of the tokens."""
    if reset is None:
        return
    shape, needed = jnp.shape(reset), tokens[0].shape[:2]
    if shape != needed:
        raise InputError(
            f"reset has shape {shape}; give it the axes `b t`, here {needed}"
        )
    if jnp.result_type(reset) != jnp.bool_:
        raise InputError(f"reset is {jnp.result_type(reset)}; give a mask of bool")


def scan_steps(
    step: Callable[[Tokens, Memory], tuple[Array, Memory]],
    tokens: Tokens,
    memory: Memory,
    *,
    initial: Memory,
    reset: Bool[Array, "b t"] | None = None,
    valid: Bool[Array, "b t"] | None = None,
) -> tuple[Array, Memory]:
    """Return outputs `b t ...` by one step per token, and the memory after the last.

    Args:
        step: (tokens without their axis t, memory) -> (output, memory).
        tokens: tokens of the sequence, `b t ...`.
        memory: memory before the first token.
        initial: memory of a new document.
        reset: True where a document begins.
        valid: mask of real tokens; others do not change the memory.
    """

    def body(memory: Memory, inputs: tuple) -> tuple[Memory, Array]:
        token, start, real = inputs
        before = memory
        if start is not None:
            memory = select(start, initial, memory)
        output, memory = step(token, memory)
        return (memory if real is None else select(real, memory, before)), output

    time_first = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), (tokens, reset, valid))
    memory, outputs = jax.lax.scan(body, memory, time_first)
    return jnp.moveaxis(outputs, 0, 1), memory


def identity_tokens(tokens: Tokens, valid: Bool[Array, "b t"]) -> Tokens:
    """Set tokens to zero where `valid` is false, so that they change no memory."""

    def keep(x: Array) -> Array:
        return jnp.where(_rows(valid, x), x, jnp.zeros_like(x))

    return jax.tree.map(keep, tokens)


def token_first(x: Float[Array, "b h c *v"], like: Array) -> Float[Array, "b c h *v"]:
    """Return an array with the axis of tokens before heads, in the type of `like`."""
    return jnp.swapaxes(x, 1, 2).astype(like.dtype)


def tokens_first(arrays: Sequence[Array | None], like: Tokens) -> Tokens:
    """Return the cotangents `b h c ...` of a chunk's tokens as tokens."""
    pairs = zip(arrays, like, strict=True)
    found = (None if x is None else token_first(x, y) for x, y in pairs)
    return type(like)(*found)


def select(rows: Bool[Array, "*axes"], chosen: Any, other: Any) -> Any:
    """Return `chosen` where the mask over the first axes is true, `other` elsewhere."""
    return jax.tree.map(lambda a, b: jnp.where(_rows(rows, b), a, b), chosen, other)


def _rows(mask: Array, x: Array) -> Array:
    return mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))


def _check_chunks(which: Several | None, time: int, chunk_size: int) -> None:
    num_chunks = -(-time // chunk_size)
    if which is not None and which.shape[1] != num_chunks:
        raise InputError(
            f"which has {which.shape[1]} entries per row; for {time} tokens in chunks "
            f"of {chunk_size} give {num_chunks}"
        )
