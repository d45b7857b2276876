"""Log-linear attention: a memory per level of a Fenwick tree over the document."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from memzoo.errors import InputError

from .associative_memory import AssociativeState, MatrixMemory
from .capacity import check_slots
from .gated_delta_net import GatedDeltaNetConfig
from .interface import Layout, MemoryLayer
from .layer_config import Family, LayerConfig, RegisteredConfig
from .memory_inputs import MemoryInputs
from .ops.linear_map import linear_map
from .ops.log_linear import Buckets, LogLinearTokens, log_linear, num_buckets
from .ops.recurrence import Recurrence
from .projection import projection
from .streams import Tails


@dataclass(frozen=True, kw_only=True)
class LogLinearAttentionConfig(RegisteredConfig):
    """Log-linear attention (Guo et al. 2025, arXiv:2506.04761), over a linear memory.

    Token s of a document is in level bit_length(t xor s) at token t: level 0 is the
    token itself, and level i at most 2^(i-1) tokens. Each level has a memory of the
    layer `memory`, S_t^(i), which decays and erases as in that layer:

        l_t = softplus(scale * (W_l x_t) + bias)
        o_t = sum over levels i of l_t^(i) (S_t^(i))^T q_t

    Everything before and after the memory is as in the layer `memory`. With mamba2 and
    gated_delta_net these are the two layers of the paper. With l = 1 the layer is
    `memory`.

    Differs from it in: `bias`, which begins at 0; the highest level has no limit, so a
    document may have any length.
    """

    family: ClassVar[Family] = "hierarchical memory"
    small: ClassVar[Mapping[str, Any]] = {
        "memory": GatedDeltaNetConfig(num_heads=2, chunk_size=8)
    }

    memory: LayerConfig = field(default_factory=GatedDeltaNetConfig)
    """Config of the memory, whose rule must be linear in the values, such as
    Mamba2Config() or GatedDeltaNetConfig(); its chunk_size is used here too."""
    num_levels: int = 17
    """Number of level weights. All levels from the last one on are one memory: with 17,
    it holds tokens at least 32,768 tokens old."""

    def __post_init__(self) -> None:
        if isinstance(self.memory, type) or not isinstance(self.memory, LayerConfig):
            raise InputError(
                f"memory is {self.memory!r}; give a layer config, such as "
                "GatedDeltaNetConfig()"
            )
        if self.num_levels < 2:
            raise InputError(f"num_levels is {self.num_levels}; give 2 or more")

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "LogLinearAttention":
        memory = self.memory.build(width, rngs, layer_index=layer_index, depth=depth)
        return LogLinearAttention(self, _check_memory(memory), width, rngs)


class LogLinearState(NamedTuple):
    """State of `LogLinearAttention`.

    Attributes:
        buckets: a memory `b h k v` for each bucket, float32. Bucket j holds 2^j tokens
            if digit j of the position is 1, and is zero otherwise.
        tails: last inputs of the short convolutions, float32.
        position: number of tokens of the document so far.
    """

    buckets: Buckets
    tails: Tails
    position: Int[Array, "b"]


class LevelWeight(nnx.Module):
    """Weights softplus(scale * (W x) + bias) of the levels, per head.

    The parameters are `kernel`, `scale` and `bias`.
    """

    def __init__(self, width: int, num_heads: int, num_levels: int, rngs: nnx.Rngs):
        """Create the map; `scale` begins at 1 and `bias` at 0."""
        shape = (num_heads, num_levels)
        self.kernel = projection(width, num_heads * num_levels, rngs).kernel
        self.scale = nnx.Param(jnp.ones(shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(shape, jnp.float32))

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t h l"]:
        scale, bias = self.scale[...][None, None], self.bias[...][None, None]
        weight = linear_map(x, self.kernel[...].astype(x.dtype)).astype(jnp.float32)
        weight = weight.reshape(*x.shape[:2], *scale.shape[2:])
        return jax.nn.softplus(scale * weight + bias)


class LogLinearAttention(MemoryLayer[LogLinearState]):
    """See `LogLinearAttentionConfig`."""

    state_growth = "log"

    def __init__(
        self,
        config: LogLinearAttentionConfig,
        memory: MatrixMemory,
        width: int,
        rngs: nnx.Rngs,
    ):
        self.config = config
        self.memory = memory
        heads = nnx.eval_shape(lambda: memory.init_memory(1)).shape[1]
        self.level_weight = LevelWeight(width, heads, config.num_levels, rngs)

    def rule(self, buckets: int) -> Recurrence[LogLinearTokens, Buckets]:
        """Return the operation on the given number of buckets."""
        return log_linear(self.memory.rule, buckets)

    def init_state(self, batch_size: int, max_length: int) -> LogLinearState:
        check_slots(max_length)
        buckets = min(num_buckets(max_length), self.config.num_levels)
        return LogLinearState(
            buckets=self._new_buckets(batch_size, buckets),
            tails=self.memory.init_tails(batch_size),
            position=jnp.zeros((batch_size,), jnp.int32),
        )

    def fresh_rows(
        self, state: LogLinearState, rows: Bool[Array, "b"]
    ) -> LogLinearState:
        fresh = self.init_state(rows.shape[0], 0)
        fresh = fresh._replace(buckets=jax.tree.map(jnp.zeros_like, state.buckets))
        return self.choose_rows(rows, fresh, state)

    def capacity(self, state: LogLinearState) -> int | None:
        buckets = len(state.buckets)
        if buckets == self.config.num_levels:
            return None
        return 2 ** (buckets - 1) if buckets else 0

    def sequence(
        self, x: Float[Array, "b t d"], state: LogLinearState, layout: Layout
    ) -> tuple[Float[Array, "b t d"], LogLinearState]:
        time, buckets = x.shape[1], len(state.buckets)
        inputs, tails = self._inputs(x, state, layout)
        place, position = layout.positions(state.position, time)
        # Documents that begin in this call may need more buckets than the state has.
        most = min(max(buckets, num_buckets(time)), self.config.num_levels)
        read, after = self.rule(most).chunkwise(
            self._tokens(place, x, inputs),
            state.buckets + self._new_buckets(x.shape[0], most - buckets),
            reset=layout.reset,
            valid=layout.valid(time),
            chunk_size=self.memory.config.chunk_size,
        )
        y = self.memory.finish(read, inputs, x)
        return y, LogLinearState(after[:buckets], tails, position)

    def token(
        self, x: Float[Array, "b d"], state: LogLinearState
    ) -> tuple[Float[Array, "b d"], LogLinearState]:
        x = x[:, None]
        inputs, tails = self._inputs(x, state, Layout())
        tokens = self._tokens(state.position[:, None], x, inputs)
        read, buckets = self.rule(len(state.buckets)).token(tokens, state.buckets)
        y = self.memory.finish(read, inputs, x)[:, 0]
        return y, LogLinearState(buckets, tails, state.position + 1)

    def _new_buckets(self, batch_size: int, count: int) -> Buckets:
        return tuple(self.memory.init_memory(batch_size) for _ in range(count))

    def _inputs(
        self, x: Float[Array, "b t d"], state: LogLinearState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        inner = AssociativeState(None, state.tails, state.position)
        return self.memory.inputs(x, inner, layout)

    def _tokens(
        self, place: Int[Array, "b t"], x: Float[Array, "b t d"], inputs: MemoryInputs
    ) -> LogLinearTokens:
        return LogLinearTokens(place + 1, self.level_weight(x), inputs.tokens)


def _check_memory(layer: MemoryLayer[Any]) -> MatrixMemory:
    """Return the layer, if its memory can be divided into levels.

    Raises:
        InputError: it cannot.
    """
    name = type(layer).__name__
    if not isinstance(layer, MatrixMemory) or layer.rule.linear_chunk is None:
        raise InputError(
            f"memory is {name}, whose rule has no linear chunk; choose mamba2, "
            "gated_delta_net or another layer with one of their rules"
        )
    if layer.accepts_prefix:
        raise InputError(
            f"memory is {name} with a prefix, which log_linear_attention does not "
            "read; set prefix to False or choose another layer"
        )
    return layer
