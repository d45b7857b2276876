"""Mixture of gated delta rule memories: our fast form and the dense form."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ..models.associative_memory import AssociativeMemory
from ..models.gated_delta_net import GatedDeltaNetConfig
from ..models.memory_inputs import MemoryInputs
from ..models.ops.delta_rule import DELTA_RULE, DeltaTokens
from ..models.ops.routing import route, selected
from ..models.routed_writes import Copies, write_dense, write_grouped

Arrays = dict[str, Float[Array, "..."]]
Options = dict[str, Any]

TOP_K = 2


def packed(x: Arrays, options: Options) -> Float[Array, "b t h v"]:
    """Group tokens by memory and scan once over the memories' chunks."""
    size = DELTA_RULE.resolve_chunk_size(options["chunk_size"], x["q"].shape[1])
    return _mixture(x, options, size)


def dense(x: Arrays, options: Options) -> Float[Array, "b t h v"]:
    """Let every memory read every token, and ignore those that did not choose it."""
    return _mixture(x, options, None)


def _mixture(
    x: Arrays, options: Options, chunk_size: int | None
) -> Float[Array, "b t h v"]:
    batch, count, _, heads, size = x["k"].shape
    routing = route(x["logits"], TOP_K)
    there = selected(routing.chosen, count, None)
    tokens = DeltaTokens(
        x["q"] * size**-0.5, x["k"], x["v"], x["write_strength"], x["log_decay"]
    )
    memories = jnp.zeros((batch, count, heads, size, size), jnp.float32)
    given = (
        Copies(_rule(options), True),
        MemoryInputs(tokens),
        memories,
        routing,
        there,
        None,
    )
    if chunk_size is None:
        return write_dense(*given)[0]
    return write_grouped(*given, chunk_size=chunk_size)[0]


def _rule(options: Options) -> AssociativeMemory:
    """Return a layer with the rule, without making its parameters."""
    config = GatedDeltaNetConfig(num_heads=1, chunk_size=options["chunk_size"])
    return nnx.eval_shape(lambda: config.build(8, nnx.Rngs(0), layer_index=0, depth=1))
