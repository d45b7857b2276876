"""Our operations with the peers' inputs, one function each."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..models.ops.attention import attention
from ..models.ops.delta_rule import DELTA_RULE, DeltaTokens
from ..models.ops.scalar_decay import SCALAR_DECAY, ScalarDecayTokens
from . import materialised
from .mixture import dense, packed
from .neural_memories import NEURAL_MEMORIES

Arrays = dict[str, Float[Array, "..."]]
# Fields of the case, `chunk_size` and `form`.
Options = dict[str, Any]
Operation = Callable[[Arrays, Options], Array]


def _choices(options: Options) -> dict[str, Any]:
    """Return the arguments of the chunkwise operations that a caller may choose."""
    return {name: options[name] for name in ("chunk_size", "form")}


def empty_memory(x: Arrays) -> Float[Array, "b h k v"]:
    """Return the memory before the first token, for the shapes of `k` and `v`."""
    batch_size, _, num_heads, key_size = x["k"].shape
    return jnp.zeros((batch_size, num_heads, key_size, x["v"].shape[-1]), jnp.float32)


def gated_delta(x: Arrays, options: Options) -> Float[Array, "b t h v"]:
    """Compute the gated delta rule; scale the queries as the peer does inside."""
    q = x["q"] * x["q"].shape[-1] ** -0.5
    tokens = DeltaTokens(q, x["k"], x["v"], x["write_strength"], x["log_decay"])
    return DELTA_RULE.chunkwise(tokens, empty_memory(x), **_choices(options))[0]


def delta(x: Arrays, options: Options) -> Float[Array, "b t h v"]:
    """Compute the delta rule without decay."""
    q = x["q"] * x["q"].shape[-1] ** -0.5
    tokens = DeltaTokens(q, x["k"], x["v"], x["write_strength"])
    return DELTA_RULE.chunkwise(tokens, empty_memory(x), **_choices(options))[0]


def scalar_decay(x: Arrays, options: Options) -> Float[Array, "b t h v"]:
    """Compute Mamba-2's scalar decay: the step scales the input and sets the decay."""
    v = x["v"] * x["time_step"][..., None]
    tokens = ScalarDecayTokens(x["q"], x["k"], v, -x["time_step"])
    return SCALAR_DECAY.chunkwise(tokens, empty_memory(x), **_choices(options))[0]


def causal_attention(x: Arrays, options: Options) -> Float[Array, "b t h v"]:
    """Compute causal softmax attention, with blocks for chunks and only one form."""
    return attention(x["q"], x["k"], x["v"], block_size=options["chunk_size"])


def retention(x: Arrays, options: Options) -> Float[Array, "b t h v"]:
    """Compute RetNet's operation: the decay of head h is 1 - 2^(-5-h)."""
    batch, time, heads, size = x["q"].shape
    decay = jnp.log1p(-(2.0 ** (-5 - jnp.arange(heads, dtype=jnp.float32))))
    log_decay = jnp.broadcast_to(decay[None, None], (batch, time, heads))
    q = x["q"] * size**-0.5
    tokens = ScalarDecayTokens(q, x["k"], x["v"], log_decay)
    return SCALAR_DECAY.chunkwise(tokens, empty_memory(x), **_choices(options))[0]


OPERATIONS: Mapping[str, Operation] = {
    "gated_delta": gated_delta,
    "delta": delta,
    "scalar_decay": scalar_decay,
    "attention": causal_attention,
    "retention": retention,
    "mixture": packed,
    **NEURAL_MEMORIES,
}

FORMS: Mapping[tuple[str, str], Operation] = {
    ("mixture", "dense"): dense,
    ("titans_mlp", "materialised"): materialised.titans_mlp,
}
"""Other forms of our operations, which are peers in some rows."""
