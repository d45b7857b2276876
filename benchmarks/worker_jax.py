"""Our contestant, in JAX; run as a module by this interpreter."""

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..models.ops.attention import attention
from ..models.ops.delta_rule import DELTA_RULE, DeltaTokens
from ..models.ops.scalar_decay import SCALAR_DECAY, ScalarDecayTokens
from .mixture import packed
from .neural_memories import CONTESTANTS as NEURAL_MEMORIES
from .serving import Prepared, serve

Arrays = dict[str, Float[Array, "..."]]
# chunk_size and form, as the chunkwise operations take them.
Options = dict[str, Any]


def empty_memory(x: Arrays) -> Float[Array, "b h k v"]:
    """The memory before the first token, for the shapes of `k` and `v`."""
    batch_size, _, num_heads, key_size = x["k"].shape
    return jnp.zeros((batch_size, num_heads, key_size, x["v"].shape[-1]), jnp.float32)


def gated_delta(x: Arrays, options: Options) -> Float[Array, "b t h v"]:
    """Gated delta rule; the scale is ours to apply, as the peer applies its own."""
    q = x["q"] * x["q"].shape[-1] ** -0.5
    tokens = DeltaTokens(q, x["k"], x["v"], x["write_strength"], x["log_decay"])
    return DELTA_RULE.chunkwise(tokens, empty_memory(x), **options)[0]


def delta(x: Arrays, options: Options) -> Float[Array, "b t h v"]:
    """Delta rule without decay."""
    q = x["q"] * x["q"].shape[-1] ** -0.5
    tokens = DeltaTokens(q, x["k"], x["v"], x["write_strength"])
    return DELTA_RULE.chunkwise(tokens, empty_memory(x), **options)[0]


def scalar_decay(x: Arrays, options: Options) -> Float[Array, "b t h v"]:
    """Scalar decay as Mamba-2 has it: the step scales the input and sets the decay."""
    v = x["v"] * x["time_step"][..., None]
    tokens = ScalarDecayTokens(x["q"], x["k"], v, -x["time_step"])
    return SCALAR_DECAY.chunkwise(tokens, empty_memory(x), **options)[0]


def causal_attention(x: Arrays, options: Options) -> Float[Array, "b t h v"]:
    """Causal softmax attention, which has blocks for chunks and one form."""
    return attention(x["q"], x["k"], x["v"], block_size=options["chunk_size"])


CONTESTANTS: Mapping[str, Callable[[Arrays, Options], Array]] = {
    "gated_delta": gated_delta,
    "delta": delta,
    "scalar_decay": scalar_decay,
    "attention": causal_attention,
    "mixture": packed,
    **NEURAL_MEMORIES,
}


def prepare(
    operation: str,
    arrays: dict[str, np.ndarray],
    options: Options,
    contestants: Mapping[str, Callable[[Arrays, Options], Array]] = CONTESTANTS,
) -> Prepared:
    """The operation on the given inputs, compiled at the first call."""
    contestant = contestants[operation]

    @jax.jit
    def forward_backward(inputs: Arrays, cotangent: Array) -> tuple[Array, Arrays]:
        o, pullback = jax.vjp(lambda x: contestant(x, options), inputs)
        return o, pullback(cotangent)[0]

    inputs = {name: jnp.asarray(x) for name, x in arrays.items()}
    cotangent = inputs.pop("cotangent")

    def call() -> None:
        jax.block_until_ready(forward_backward(inputs, cotangent))

    def results() -> dict[str, np.ndarray]:
        o, gradients = forward_backward(inputs, cotangent)
        named = {f"gradient_{name}": g for name, g in gradients.items()}
        return {name: np.asarray(x) for name, x in (named | {"output": o}).items()}

    return Prepared(call, results)


def versions() -> dict[str, str]:
    """Versions of what computes."""
    return {name: version(name) for name in ("memzoo", "jax", "jaxlib")}


if __name__ == "__main__":
    serve(prepare, versions)
