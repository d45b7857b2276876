"""The delta rule, with the surprise of every token beside its output.

The write of a token changes the memory by k_t w_t^T. With a key of length 1 the
surprise |w_t| is the Frobenius norm of that change (arXiv 2607.02303). It is the last
channel of the output, and no gradient passes through it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from . import delta_rule
from .delta_rule import DeltaTokens, Saved
from .recurrence import Recurrence


def step(
    token: DeltaTokens, memory: Float[Array, "b h k v"]
) -> tuple[Float[Array, "b h w"], Float[Array, "b h k v"]]:
    """Return one token's output and surprise, and the memory after it."""
    read, write, memory = delta_rule.step_with_write(token, memory)
    return _joined(read, write), memory


def chunk(
    memory: Float[Array, "b h k v"],
    tokens: DeltaTokens,
    segment: Int[Array, "b c"] | None,
) -> tuple[Float[Array, "b h k v"], Float[Array, "b c h w"], Saved]:
    """Return the memory after a chunk, its outputs, and arrays for its gradient."""
    memory, o, saved = delta_rule.chunk(memory, tokens, segment)
    return memory, _joined(o, jnp.swapaxes(saved.write, 1, 2)), saved


def chunk_backward(
    memory: Float[Array, "b h k v"],
    tokens: DeltaTokens,
    segment: Int[Array, "b c"] | None,
    saved: Saved,
    memory_cotangent: Float[Array, "b h k v"],
    o_cotangent: Float[Array, "b c h w"],
) -> tuple[Float[Array, "b h k v"], DeltaTokens]:
    """Return the cotangents of the memory before a chunk and of its tokens."""
    return delta_rule.chunk_backward(
        memory, tokens, segment, saved, memory_cotangent, o_cotangent[..., :-1]
    )


def all_chunks(
    tokens: DeltaTokens,
    segments: Int[Array, "n b c"] | None,
    which: Int[Array, "b n"] | None,
    memory: Float[Array, "b *m h k v"],
) -> tuple[Float[Array, "n b c h w"], Float[Array, "b *m h k v"]]:
    """Return outputs and last memory; only what needs the memory is in the scan."""
    o, write, memory = delta_rule.all_chunks_with_writes(
        tokens, segments, which, memory
    )
    return _joined(o, jnp.swapaxes(write, 2, 3)), memory


def _joined(
    o: Float[Array, "*b h v"], write: Float[Array, "*b h v"]
) -> Float[Array, "*b h w"]:
    """Return outputs with the surprise as one channel more."""
    write = jax.lax.stop_gradient(write)
    surprise = jnp.sqrt(jnp.sum(jnp.square(write), axis=-1, keepdims=True))
    return jnp.concatenate([o, surprise.astype(o.dtype)], axis=-1)


DELTA_SURPRISE = Recurrence(
    tokens=DeltaTokens,
    step=step,
    chunk=chunk,
    chunk_backward=chunk_backward,
    all_chunks=all_chunks,
)
