"""Our neural memories with the peers' inputs, one function per operation."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..models.ops.fast_gradients import row_product, scale_rows
from ..models.ops.linear_map import linear_map
from ..models.ops.memory_network import MemoryNetwork, Weights
from ..models.ops.neural_memory import NeuralTokens, neural_memory_chunkwise
from ..models.ops.write_rule import WriteRule, new_memory
from ..models.ops.write_schedule import Gates

Arrays = dict[str, Float[Array, "..."]]
Options = dict[str, Any]

_LARGEST_STEP = 0.01


def titans(x: Arrays, options: Options) -> Float[Array, "b t h v"]:
    """Compute Titans with a linear memory and a layer norm that it does not write."""
    network = _under_norm(x)
    rule = WriteRule(update_every=options["update_every"])
    gates = Gates(x["learning_rate"], x["momentum"], x["forget"])
    weights = {"kernel_0": _empty(x)}
    return _read(x, x["q"], gates, weights, network, rule, options)


def ttt(x: Arrays, options: Options) -> Float[Array, "b t h v"]:
    """Compute TTT-Linear: every token scales all steps of its window so far."""
    network = _under_norm(x, bias=True)
    rule = WriteRule(
        update_every=options["update_every"], loss="half", schedule="window"
    )
    gates = Gates(jnp.ones_like(x["step"]), step_scale=x["step"])
    memory = _empty(x)
    weights = {"kernel_0": memory, "kernel_0_bias": jnp.zeros_like(memory[:, :, 0])}
    q = x["q"] * x["q"].shape[-1] ** -0.5
    return _read(x, q, gates, weights, network, rule, options)


def titans_mlp(x: Arrays, options: Options) -> Float[Array, "b t h v"]:
    """Compute Titans with an MLP of two matrices as memory."""
    size, hidden = x["memory_up"].shape[-2:]
    network = MemoryNetwork(key_size=size, value_size=size, hidden_size=hidden)
    rule = WriteRule(update_every=options["update_every"])
    gates = Gates(x["learning_rate"], x["momentum"], x["forget"])
    weights = _for_rows(x, x["q"].shape[0])
    return _read(x, x["q"], gates, weights, network, rule, options)


def titans_lmm(x: Arrays, options: Options) -> Float[Array, "b t d"]:
    """Compute the module around the memory: norms, maps to heads and back, gates."""
    heads, size = x["memory_norm"].shape
    tokens = x["x"]
    stored = _normalised(tokens, x["store_norm"])
    asked = _normalised(tokens, x["retrieve_norm"])

    def in_heads(y: Array) -> Float[Array, "b t h k"]:
        return y.reshape(*y.shape[:2], heads, size)

    def gate(name: str) -> Float[Array, "b t h"]:
        return jax.nn.sigmoid(
            linear_map(stored, x[name]) + x[f"{name}_bias"][None, None]
        )

    network = MemoryNetwork(
        key_size=size,
        value_size=size,
        hidden_size=x["memory_up"].shape[-1],
        residual=True,
        norm="fast",
    )
    rule = WriteRule(update_every=options["update_every"])
    # The peer's loss is a mean over the head's channels.
    gates = Gates(_LARGEST_STEP / size * gate("step"), gate("momentum"), gate("decay"))
    rows = tokens.shape[0]
    norm = jnp.broadcast_to(1 + x["memory_norm"][None], (rows, heads, size))
    weights = _for_rows(x, rows) | {"norm": norm, "norm_bias": jnp.zeros_like(norm)}
    read, _ = neural_memory_chunkwise(
        NeuralTokens(
            in_heads(linear_map(asked, x["query"])),
            in_heads(linear_map(stored, x["key"])),
            in_heads(linear_map(stored, x["value"])),
            gates,
        ),
        new_memory(weights, network, rule, momentum=True, carried=False),
        network=network,
        rule=rule,
        chunk_size=options["chunk_size"],
    )
    read = scale_rows(read, jax.nn.sigmoid(linear_map(asked, x["gate"])))
    return linear_map(read.reshape(tokens.shape), x["output"])


NEURAL_MEMORIES = {
    "titans": titans,
    "ttt": ttt,
    "titans_mlp": titans_mlp,
    "titans_lmm": titans_lmm,
}


def _read(
    x: Arrays,
    q: Float[Array, "b t h k"],
    gates: Gates,
    weights: Weights,
    network: MemoryNetwork,
    rule: WriteRule,
    options: Options,
) -> Float[Array, "b t h v"]:
    slow = None
    if network.norm == "slow":
        slow = {"norm": x["norm"], "norm_bias": x["norm_bias"]}
    momentum = rule.schedule == "titans"
    memory = new_memory(weights, network, rule, momentum=momentum, carried=False)
    return neural_memory_chunkwise(
        NeuralTokens(q, x["k"], x["v"], gates),
        memory,
        network=network,
        rule=rule,
        slow=slow,
        chunk_size=options["chunk_size"],
    )[0]


def _under_norm(x: Arrays, *, bias: bool = False) -> MemoryNetwork:
    """Return f(k) = k + norm(k W), so that norm(k W) learns value - key."""
    size = x["k"].shape[-1]
    return MemoryNetwork(
        key_size=size,
        value_size=size,
        hidden_size=size,
        depth=1,
        residual=True,
        norm="slow",
        bias=bias,
    )


def _empty(x: Arrays) -> Float[Array, "b h k v"]:
    rows, _, heads, size = x["k"].shape
    return jnp.zeros((rows, heads, size, size), jnp.float32)


def _for_rows(x: Arrays, rows: int) -> Weights:
    """Return the memory's two matrices for every row of the batch."""
    names = {"kernel_0": "memory_up", "kernel_1": "memory_down"}
    return {
        name: jnp.broadcast_to(x[source][None], (rows, *x[source].shape))
        for name, source in names.items()
    }


def _normalised(x: Array, scale: Array) -> Array:
    square = row_product(x, x) / x.shape[-1]
    return scale_rows(x, jax.lax.rsqrt(square + 1e-6)) * scale[None, None]
