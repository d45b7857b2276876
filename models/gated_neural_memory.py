"""Base of Titans' memory and its successors: a network written with learned gates."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from memzoo.errors import InputError

from .associative_memory import AssociativeState
from .interface import Layout
from .layer_checks import (
    check_chunk_size,
    check_convolution,
    check_positive,
    resolve_head_size,
)
from .layer_config import Family, RegisteredConfig
from .memory_inputs import MemoryInputs
from .neural_memory_layer import NeuralMemoryLayer
from .ops.memory_network import MemoryNetwork
from .ops.neural_memory import NeuralTokens
from .ops.normalisation import l2_normalise
from .ops.write_rule import WriteRule
from .ops.write_schedule import Gates
from .projection import RMSNorm, projection
from .read_out import ReadOut
from .streams import Tails, query_key_value


@dataclass(frozen=True, kw_only=True)
class GatedNeuralMemoryConfig(RegisteredConfig):
    """Fields of every memory with learned step sizes and forgetting.

    A layer implements `write_rule` and `build`. It may override `memory_network`,
    `query_size` and `has_momentum`.
    """

    family: ClassVar[Family] = "neural memory"

    num_heads: int = 4
    head_size: int | None = None
    """Size of each head's queries, keys and values; None: width / num_heads."""
    memory_depth: int = 2
    """Number of matrices of an MLP memory; 1: a linear memory."""
    memory_expansion: int = 4
    """Ratio of the memory's hidden size to its key size."""
    activation: Literal["gelu", "silu"] = "gelu"
    """Activation between the matrices of an MLP memory."""
    update_every: int = 16
    """Tokens per window, whose gradients use the same memory; changes the result."""
    forget: bool = True
    """Use forgetting, alpha; False: alpha = 0."""
    max_learning_rate: float = 0.1
    """Largest theta."""
    clip: float | None = 1.0
    """Largest norm of a token's gradient per head; None: no limit, as published."""
    persistent_tokens: int = 0
    """Number of learned tokens that a new memory has read; 0: none."""
    convolution_size: int = 4
    """Taps of the short convolutions on queries, keys and values; 0: none."""
    output_gate: bool = True
    """Multiply the read by silu(W_g x)."""
    norm_epsilon: float = 1e-5
    """Epsilon of the read's norm: added to the mean square."""
    chunk_size: int | None = None
    """Tokens computed together; affects speed only. None: chosen for the backend."""

    def __post_init__(self) -> None:
        check_convolution(self.convolution_size)
        check_chunk_size(self.chunk_size)
        for name in ("num_heads", "memory_depth", "memory_expansion", "update_every"):
            check_positive(name, getattr(self, name))
        check_positive("max_learning_rate", self.max_learning_rate)
        check_positive("norm_epsilon", self.norm_epsilon)
        if self.clip is not None:
            check_positive("clip", self.clip)
        if self.persistent_tokens < 0:
            raise InputError(
                f"persistent_tokens is {self.persistent_tokens}; give 0 (none) or more"
            )

    def write_rule(self) -> WriteRule:
        """Return the rule of the writes."""
        raise NotImplementedError

    def memory_network(self, size: int) -> MemoryNetwork:
        """Return the network that serves as the memory of a head of `size` channels."""
        return MemoryNetwork(
            key_size=size,
            value_size=size,
            hidden_size=size * self.memory_expansion,
            depth=self.memory_depth,
            activation=self.activation,
        )

    def query_size(self, size: int) -> int:
        """Return the size of queries and keys before `GatedNeuralMemory.features`."""
        return size

    @property
    def has_momentum(self) -> bool:
        """True if past gradients count in every step."""
        return False

    @property
    def squared_key(self) -> float:
        """Squared length of a key that enters the network."""
        return 1.0

    @property
    def step_of_repeated_keys(self) -> float:
        """Return the largest step of a window in which all keys are equal.

        Above 2, the write overshoots by more than the error, and the memory grows (this
        is exact for a linear memory without momentum). Rules without such a bound, and
        rules that restore norms, return 0.
        """
        rule = self.write_rule()
        if not rule.linear or rule.keep_row_norms or rule.loss == "power":
            return 0.0
        factor = 2.0 if rule.loss == "full" else 1.0
        tokens = float(rule.update_every * rule.loss_window)
        if rule.scale_by_place:
            tokens = sum(1 / i for i in range(1, rule.update_every + 1))
        return factor * self.max_learning_rate * tokens * self.squared_key


class GatedNeuralMemory(NeuralMemoryLayer):
    """Layer of a `GatedNeuralMemoryConfig`."""

    def __init__(
        self,
        config: GatedNeuralMemoryConfig,
        width: int,
        rngs: nnx.Rngs,
        depth: int,
    ):
        size = resolve_head_size(width, config.num_heads, config.head_size)
        heads, inner = config.num_heads, config.num_heads * size
        keys = heads * config.query_size(size)
        self.config = config
        self.head_size = size
        self.network = config.memory_network(size)
        self.write_rule = config.write_rule()
        self.has_momentum = config.has_momentum
        self.query, self.key, self.value = query_key_value(
            width,
            (keys, keys, inner),
            (heads, heads, heads),
            config.convolution_size,
            rngs,
        )
        self.make_encoder(width, rngs)
        self.learning_rate = _gate(width, heads, rngs, start=0.0)
        self.momentum = (
            _gate(width, heads, rngs, start=0.0) if config.has_momentum else None
        )
        self.forget = _gate(width, heads, rngs, start=-5.0) if config.forget else None
        huber = self.write_rule.loss == "huber"
        # softplus(0.54) = 1.
        self.threshold = _gate(width, heads, rngs, start=0.54) if huber else None
        self.make_initial(heads, rngs, scale=0.1)
        self.persistent = _persistent(config.persistent_tokens, width, rngs)
        self.read_out = ReadOut(
            inner,
            width,
            rngs,
            depth=depth,
            norm=RMSNorm(size, config.norm_epsilon),
            gate=projection(width, inner, rngs) if config.output_gate else None,
        )

    def make_encoder(self, width: int, rngs: nnx.Rngs) -> None:
        """Create the maps of a prefix, if the layer accepts one."""
        del width, rngs

    def features(self, x: Float[Array, "b t h k"]) -> Float[Array, "b t h f"]:
        """Return the inputs of the network from normalised queries or keys."""
        return x

    def prefix_tokens(self) -> Float[Array, "p d"] | None:
        return None if self.persistent is None else self.persistent[...]

    def inputs(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        (q, k, v), tails = self.streams(x, state.tails, layout)
        q, k = (self.features(l2_normalise(a)) for a in (q, k))
        return MemoryInputs(NeuralTokens(q, k, v, self._gates(x))), tails

    def _gates(self, x: Float[Array, "b t d"]) -> Gates:
        def gate(module: nnx.Linear | None) -> Array | None:
            if module is None:
                return None
            return jax.nn.sigmoid(module(x).astype(jnp.float32))

        rate = gate(self.learning_rate)
        assert rate is not None
        threshold = None
        if self.threshold is not None:
            raw = self.threshold(x).astype(jnp.float32)
            threshold = math.sqrt(self.head_size) * jax.nn.softplus(raw)
        return Gates(
            learning_rate=self.config.max_learning_rate * rate,
            momentum=gate(self.momentum),
            forget=gate(self.forget),
            threshold=threshold,
        )


def _persistent(tokens: int, width: int, rngs: nnx.Rngs) -> nnx.Param | None:
    if not tokens:
        return None
    return nnx.Param(jax.random.normal(rngs.params(), (tokens, width), jnp.float32))


def _gate(width: int, heads: int, rngs: nnx.Rngs, *, start: float) -> nnx.Linear:
    """Return a map whose outputs are initially near `start`."""
    gain = 1 / math.sqrt(width)
    module = projection(width, heads, rngs, bias=True, gain=gain, per_memory=True)
    assert module.bias is not None
    module.bias[...] = jnp.full((heads,), start, jnp.float32)
    return module
