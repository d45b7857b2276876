"""Linear attention through features of queries and keys, divided by its weights."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from .associative_memory import AssociativeState, MatrixMemory
from .interface import Layout
from .memory_inputs import MemoryInputs
from .ops import feature_maps
from .ops.recurrence import Recurrence
from .ops.scalar_decay import SCALAR_DECAY, ScalarDecayTokens
from .ops.taylor_attention import TAYLOR_ATTENTION, TaylorTokens
from .streams import Tails

_EPSILON = 1e-12


class NormalisedFeatures(MatrixMemory):
    """The read (phi(q) . sum phi(k) v^T) / (phi(q) . sum phi(k) + 1e-12).

    The memory's last column is the sum of phi(k). A layer sets the streams, `read_out`,
    `head_size` (of the values) and a config with `num_heads`, `feature_size` (of
    queries and keys) and `feature_map`, whose features must be positive in products.
    """

    config: Any
    head_size: int

    @property
    def rule(self) -> Recurrence:  # type: ignore[override]
        return TAYLOR_ATTENTION if self.config.feature_map == "taylor" else SCALAR_DECAY

    def init_memory(self, batch_size: int) -> Float[Array, "b h k v"]:
        config = self.config
        features = feature_maps.num_features(config.feature_map, config.feature_size)
        shape = (batch_size, config.num_heads, features, self.head_size + 1)
        return jnp.zeros(shape, jnp.float32)

    def inputs(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        (q, k, v), tails = self.streams(x, state.tails, layout)
        return MemoryInputs(self.make_tokens(self._mapped(q), k, v)), tails

    def make_tokens(
        self,
        query: Float[Array, "b t h f"],
        k: Float[Array, "b t h k"],
        v: Float[Array, "b t h v"],
    ) -> TaylorTokens | ScalarDecayTokens:
        """Return the tokens of the rule, from a query of `inputs` and plain keys."""
        return self.rule.tokens(query, self._mapped(k), _with_one(v))

    def read(
        self, query: Float[Array, "b t h k"], memory: Float[Array, "b h f v"]
    ) -> Float[Array, "b t h v"]:
        if self.rule is TAYLOR_ATTENTION:
            query = feature_maps.taylor(query)
        return super().read(query, memory)

    def output(
        self, read: Float[Array, "b t h v"], x: Float[Array, "b t d"]
    ) -> Float[Array, "b t d"]:
        total = read[..., -1:].astype(jnp.float32) + _EPSILON
        y = (read[..., :-1] / total).astype(read.dtype)
        return self.read_out(y, x)

    def _mapped(self, x: Float[Array, "b t h k"]) -> Float[Array, "b t h f"]:
        """Return features of queries or keys, unless the rule computes them itself."""
        config = self.config
        if config.feature_map.startswith("taylor"):
            # They approximate exp(q . k / sqrt(size)); q and k share the factor.
            x = x * config.feature_size**-0.25
        if self.rule is TAYLOR_ATTENTION:
            return x
        return feature_maps.FEATURE_MAPS[config.feature_map](x)


def _with_one(v: Float[Array, "b t h v"]) -> Float[Array, "b t h w"]:
    """Append a 1 to every value; its weighted sum is the normaliser."""
    return jnp.concatenate([v, jnp.ones_like(v[..., :1])], axis=-1)
