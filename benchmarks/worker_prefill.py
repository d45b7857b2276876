"""Our contestants that read a long prompt, forward alone; run as a module."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from ..models.attention import AttentionConfig
from ..models.block import Block, Group, StackConfig
from ..models.interface import Layout
from ..models.ops import feature_maps
from ..models.ops.attention import attention
from ..models.ops.taylor_attention import TAYLOR_ATTENTION, TaylorTokens
from ..models.prefix_linear_attention import PrefixLinearAttentionConfig
from .serving import Prepared, serve
from .worker_gpu import versions as gpu_versions
from .worker_jax import versions

Arrays = dict[str, Array]
# Results are compared on this many tokens, so that nothing is read for that alone.
COMPARED = 64

LAYERS = {
    "prefix_linear_attention": PrefixLinearAttentionConfig(num_heads=16),
    "attention": AttentionConfig(num_heads=16, rotary_base=None),
}


def read_prefix(x: Arrays) -> Float[Array, "b t h v"]:
    """The whole prompt a prefix: written, then read causally behind it."""
    ones = jnp.ones_like(x["v"][..., :1])
    v, v_prefix = (jnp.concatenate([x[n], ones], axis=-1) for n in ("v", "v_prefix"))
    batch, _, heads, size = x["q"].shape
    features = feature_maps.taylor_size(size)
    # As in the layer: the type of all sums.
    memory = jnp.zeros((batch, heads, features, v.shape[-1]), jnp.float32)
    scale = size**-0.25
    k, k_prefix = scale * x["k"], scale * x["k_prefix"]
    prefix = TaylorTokens(jnp.zeros_like(k_prefix), k_prefix, v_prefix)
    memory = TAYLOR_ATTENTION.write(prefix, memory)
    o, _ = TAYLOR_ATTENTION.chunkwise(TaylorTokens(scale * x["q"], k, v), memory)
    return o[..., :-1] / (o[..., -1:] + 1e-12)


def read_attention(x: Arrays) -> Float[Array, "b t h v"]:
    """Causal softmax attention of the same values."""
    return attention(x["q_attention"], x["k_attention"], x["v"])


OPERATIONS: dict[str, Callable[[Arrays], Array]] = {
    "prefix_linear_attention": read_prefix,
    "attention": read_attention,
}


def prepare(kind: str, arrays: dict[str, np.ndarray], options: dict[str, Any]):
    """`op`, `block` or `decode` of the layer that the options name."""
    prepared: Callable[..., Prepared] = {
        "op": _operation,
        "block": _block,
        "decode": _decode,
    }[kind]
    return prepared(options["layer"], arrays, options)


def _operation(
    layer: str, arrays: dict[str, np.ndarray], options: dict[str, Any]
) -> Prepared:
    dtype = options["dtype"]
    run = jax.jit(OPERATIONS[layer])
    x = {name: jnp.asarray(a, dtype) for name, a in arrays.items()}
    short = {name: a[:, :COMPARED] for name, a in x.items()}
    compiled = run.lower(x).compile()
    return _in_turn(
        lambda: compiled(x), lambda: {"output": np.asarray(run(short), np.float32)}
    )


def _in_turn(begin: Callable[[], Array], results: Callable[[], Any]) -> Prepared:
    """Passes that are begun one after the other, and waited for at the end."""
    last: list[Array] = []

    def call() -> None:
        last[:] = [begin()]

    return Prepared(call, results, lambda: jax.block_until_ready(last))


def _build(layer: str, width: int) -> Block:
    """A whole block, its SwiGLU twice as wide as the model."""
    config = StackConfig(pattern=(Group(layers=(LAYERS[layer],)),), mlp_width=2 * width)
    return Block(LAYERS[layer], config, width, nnx.Rngs(0), 0)


def _split(block: Block, x: Array) -> tuple[Any, Any]:
    """Its definition, and its parameters in the type of the activations."""
    graphdef, parameters = nnx.split(block)
    return graphdef, jax.tree.map(lambda p: p.astype(x.dtype), parameters)


def _block(
    layer: str, arrays: dict[str, np.ndarray], options: dict[str, Any]
) -> Prepared:
    x = jnp.asarray(arrays["x"], options["dtype"])
    graphdef, parameters = _split(_build(layer, x.shape[-1]), x)

    @jax.jit
    def run(parameters: Any, x: Array) -> Array:
        block = nnx.merge(graphdef, parameters)
        # Who reads causally is told of no prefix.
        layout = Layout(prefix=jnp.ones(x.shape[:2], bool))
        state = block.mixer.init_state(x.shape[0], 0)
        return block.sequence(x, state, layout)[0]

    compiled = run.lower(parameters, x).compile()
    return _in_turn(
        lambda: compiled(parameters, x),
        lambda: {"output": np.asarray(run(parameters, x[:, :COMPARED]), np.float32)},
    )


def _decode(
    layer: str, arrays: dict[str, np.ndarray], options: dict[str, Any]
) -> Prepared:
    """One generated token by a block, so many tokens behind the document's begin."""
    x = jnp.asarray(arrays["x"], options["dtype"])
    block = _build(layer, x.shape[-1])
    graphdef, parameters = _split(block, x)
    position = options["position"]

    def there(state: Any) -> Any:
        return state._replace(position=jnp.full_like(state.position, position))

    @partial(jax.jit, donate_argnums=1)
    def step(parameters: Any, state: Any, x: Array) -> tuple[Array, Any]:
        y, after = nnx.merge(graphdef, parameters).token(x, state)
        # In place, as a decoder has it, and at the same place every time.
        return y, there(after)

    kept = [there(block.mixer.init_state(x.shape[0], position + 1))]

    def call() -> None:
        y, kept[0] = step(parameters, kept[0], x[:, 0])
        jax.block_until_ready(y)

    return Prepared(call, lambda: {"output": np.zeros(1, np.float32)})


if __name__ == "__main__":
    serve(cast(Any, prepare), gpu_versions if "gpu" in sys.argv else versions)
