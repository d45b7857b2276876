"""Our side of long prompts: an operation, a block, and one generated token."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

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
from ..train.state import Template, by_path
from .serving import Prepared

Arrays = dict[str, Array]
Options = dict[str, Any]


def read_prefix(x: Arrays) -> Float[Array, "b t h v"]:
    """Write the whole prompt as a prefix, then read it causally."""
    ones = jnp.ones_like(x["v"][..., :1])
    v, v_prefix = (jnp.concatenate([x[n], ones], axis=-1) for n in ("v", "v_prefix"))
    batch, _, heads, size = x["q"].shape
    features = feature_maps.taylor_size(size)
    # Sums are float32, as in the layer.
    memory = jnp.zeros((batch, heads, features, v.shape[-1]), jnp.float32)
    scale = size**-0.25
    k, k_prefix = scale * x["k"], scale * x["k_prefix"]
    prefix = TaylorTokens(jnp.zeros_like(k_prefix), k_prefix, v_prefix)
    memory = TAYLOR_ATTENTION.write(prefix, memory)
    o, _ = TAYLOR_ATTENTION.chunkwise(TaylorTokens(scale * x["q"], k, v), memory)
    return o[..., :-1] / (o[..., -1:] + 1e-12)


def read_attention(x: Arrays) -> Float[Array, "b t h v"]:
    """Compute causal softmax attention of the same values."""
    return attention(x["q_attention"], x["k_attention"], x["v"])


PROMPTS: Mapping[str, Callable[[Arrays], Array]] = {
    "prefix_linear_attention": read_prefix,
    "attention": read_attention,
}


def _build(options: Options) -> tuple[Block, Template]:
    """Build a block with a SwiGLU twice as wide as the model."""
    heads = options["num_heads"]
    width = heads * options["head_size"]
    layer = {
        "prefix_linear_attention": PrefixLinearAttentionConfig(num_heads=heads),
        "attention": AttentionConfig(num_heads=heads, rotary_base=None),
    }[options["operation"]]
    config = StackConfig(pattern=(Group(layers=(layer,)),), mlp_width=2 * width)
    block = Block(layer, config, width, nnx.Rngs(0), 0)
    return block, Template(*nnx.split(block, nnx.Param, ...))


def _parameters(block: Block, dtype: Any) -> Arrays:
    """Return parameters by path, in the type of the activations."""
    found = by_path(nnx.state(block, nnx.Param))
    return {name: a.astype(dtype) for name, a in found.items()}


def prepare_block(
    x: Arrays, options: Options
) -> tuple[Callable[[Arrays], Array], Arrays]:
    """Return a block that reads the prompt, and its inputs with the parameters."""
    block, template = _build(options)
    rest = by_path(template.rest)

    def function(x: Arrays) -> Array:
        parameters = {name: a for name, a in x.items() if name != "x"}
        block = template.merge(parameters, rest)
        # The block passes the prefix only to a layer that accepts it.
        layout = Layout(prefix=jnp.ones(x["x"].shape[:2], bool))
        state = block.mixer.init_state(x["x"].shape[0], 0)
        return block.sequence(x["x"], state, layout)[0]

    return function, x | _parameters(block, x["x"].dtype)


def prepare_decode(arrays: dict[str, np.ndarray], options: Options) -> Prepared:
    """Prepare a block that generates one token at position `time` of a document."""
    x = jnp.asarray(arrays["x"], options["dtype"])[:, 0]
    block, template = _build(options)
    parameters, rest = _parameters(block, x.dtype), by_path(template.rest)
    position = options["time"]

    def moved(state: Any) -> Any:
        return state._replace(position=jnp.full_like(state.position, position))

    @partial(jax.jit, donate_argnums=1)
    def step(parameters: Arrays, state: Any, x: Array) -> tuple[Array, Any]:
        y, after = template.merge(parameters, rest).token(x, state)
        # The state is updated in place, as in decoding; reset the position.
        return y, moved(after)

    state = [moved(block.mixer.init_state(x.shape[0], position + 1))]
    last: list[Array] = []

    def call() -> None:
        y, state[0] = step(parameters, state[0], x)
        last[:] = [jax.block_until_ready(y)]

    return Prepared(call, lambda: {"output": np.asarray(last[0], np.float32)})


BLOCK_KINDS: Mapping[str, Callable[..., Any]] = {
    "block": prepare_block,
    "decode": prepare_decode,
}
