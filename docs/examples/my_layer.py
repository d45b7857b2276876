"""Example of your own layer: one matrix memory per head, with a decay per token.

memzoo check docs/examples/my_layer.py
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from memzoo.errors import InputError
from memzoo.models.associative_memory import MatrixMemory
from memzoo.models.layer_checks import resolve_head_size
from memzoo.models.memory_inputs import MemoryInputs
from memzoo.models.ops.scalar_decay import SCALAR_DECAY, ScalarDecayTokens
from memzoo.models.projection import RMSNorm, projection
from memzoo.models.read_out import ReadOut
from memzoo.models.streams import query_key_value


@dataclass(frozen=True, kw_only=True)
class MyLayerConfig:
    """S_t = a_t S_(t-1) + k_t v_t^T,  o_t = S_t^T q_t,  a_t = sigmoid(W x)^(1 / life).

    Gated linear attention (Yang et al. 2023, arXiv:2312.06635) with one gate per head.
    """

    num_heads: int = 2
    """Heads; each has a memory of head size x head size."""
    convolution_size: int = 4
    """Taps of the short convolutions on queries, keys and values; 0: none."""
    life: float = 8.0
    """Tokens after which half of the memory is left, if W x is 0."""
    chunk_size: int | None = None
    """Tokens in a chunk; affects only speed. None: chosen by the backend."""

    def __post_init__(self) -> None:
        if not self.life > 0:
            raise InputError(f"life is {self.life}; give a number above 0")

    def build(self, width: int, rngs: nnx.Rngs, *, layer_index, depth) -> "MyLayer":
        del layer_index  # every block of a stack is built the same way
        return MyLayer(self, width, rngs, depth)


class MyLayer(MatrixMemory):
    """See `MyLayerConfig`."""

    rule = SCALAR_DECAY

    def __init__(self, config: MyLayerConfig, width: int, rngs: nnx.Rngs, depth: int):
        heads, size = config.num_heads, resolve_head_size(width, config.num_heads, None)
        self.config = config
        self.shape = (heads, size, size)
        self.query, self.key, self.value = query_key_value(
            width,
            (width, width, width),
            (heads, heads, heads),
            config.convolution_size,
            rngs,
        )
        self.decay = projection(width, heads, rngs, per_memory=True)
        norm = RMSNorm(size)
        self.read_out = ReadOut(width, width, rngs, depth=depth, norm=norm)

    def init_memory(self, batch_size):
        return jnp.zeros((batch_size, *self.shape), jnp.float32)

    def inputs(self, x, state, layout):
        (query, key, value), tails = self.streams(x, state.tails, layout)
        keep = jax.nn.log_sigmoid(self.decay(x).astype(jnp.float32))
        log_decay = keep / self.config.life
        query = query * self.shape[1] ** -0.5
        tokens = ScalarDecayTokens(query, key, value, log_decay)
        return MemoryInputs(tokens), tails
