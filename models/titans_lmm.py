"""Titans' long-term memory: a network that is trained on the sequence it reads."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

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
from .regression import Regression
from .streams import Encoder, Tails, query_key_value


@dataclass(frozen=True, kw_only=True)
class TitansLMMConfig(RegisteredConfig):
    """The neural long-term memory of Titans (Behrouz et al. 2024, arXiv:2501.00663).

    Per head, with keys and queries of length 1 and M a small network (equations 11 to
    15, 18 and 19):

        u_t = grad_M ||M'(k_t) - v_t||^2, M' the memory before the window of t
        S_t = eta_t S_(t-1) - theta_t u_t
        M_t = (1 - alpha_t) M_(t-1) + S_t
        y_t = W_o (norm(M_t(q_t)) * silu(W_g x_t))

    A new memory has read the persistent tokens.

    With `prefix`, the M tokens of a prefix are first read non-causally, an idea of
    arXiv:2407.05483. They are written as M further tokens before the document's first,
    with the same gates, and keys ke and values ve from separate maps. The causal pass
    then reads all tokens, the prefix included, from the resulting memory, momentum and
    window.

    Choices that the paper leaves open: a gate is the sigmoid of a linear map, one per
    head and token, with theta below `max_learning_rate`; windows have `update_every`
    tokens; the memory's initial weights are learned; the network has no residual and
    no norm.

    Differs from it in: gradients longer than `clip` are shortened to it, because deep
    memories diverge otherwise (None: as published); the short convolutions do not reach
    from the first tokens into the persistent ones, and no window holds both.
    """

    family: ClassVar[Family] = "neural memory"
    regression: ClassVar[Regression | None] = Regression(
        "scalar_decay", "mlp", "online_momentum"
    )
    small: ClassVar[Mapping[str, Any]] = {
        "update_every": 4,
        "memory_depth": 1,
        "persistent_tokens": 2,
    }

    num_heads: int = 4
    head_size: int | None = None
    """Size of each head's queries, keys and values; None: width / num_heads."""
    network: Literal["mlp", "swiglu"] = "mlp"
    """Network that serves as the memory."""
    memory_depth: int = 2
    """Number of matrices of an MLP memory; 1: a linear memory."""
    memory_expansion: int = 4
    """Ratio of the memory's hidden size to its key size."""
    activation: Literal["gelu", "silu"] = "gelu"
    """Activation between the matrices of an MLP memory."""
    memory_residual: bool = False
    """Add the memory's input to its output."""
    memory_norm: bool = False
    """Apply layer norm to the memory's output; its scale and bias are in the memory."""
    update_every: int = 16
    """Tokens per window, whose gradients use the same memory; changes the result."""
    momentum: bool = True
    """Use past surprise, eta; False: eta = 0."""
    forget: bool = True
    """Use forgetting, alpha; False: alpha = 0."""
    max_learning_rate: float = 0.1
    """Largest theta."""
    read: Literal["after", "before", "window"] = "after"
    """Read the memory after or before the token's own write, or before its window."""
    loss: Literal["full", "half"] = "full"
    """||error||^2 as published, or half of it."""
    loss_window: int = 1
    """Number of tokens whose losses are summed at each token (Omega rule of ATLAS)."""
    clip: float | None = 1.0
    """Largest norm of a token's gradient per head; None: no limit, as published."""
    scale_by_place: bool = False
    """Divide theta by the token's place in its window, from 1."""
    keep_row_norms: bool = False
    """Restore the initial row norms of the memory's matrices at every window."""
    persistent_tokens: int = 4
    """Number of learned tokens that a new memory has read; 0: none."""
    convolution_size: int = 4
    """Taps of the short convolutions on queries, keys and values; 0: none."""
    output_gate: bool = True
    """Multiply the read by silu(W_g x)."""
    prefix: bool = False
    """Accept a prefix; adds maps to the prefix's keys and values."""
    norm_epsilon: float = 1e-5
    """Epsilon of the read's norm: added to the mean square."""
    chunk_size: int | None = None
    """Tokens computed together; affects speed only. None: chosen for the backend."""

    def __post_init__(self) -> None:
        check_convolution(self.convolution_size)
        check_chunk_size(self.chunk_size)
        for name in ("num_heads", "memory_depth", "memory_expansion", "loss_window"):
            check_positive(name, getattr(self, name))
        check_positive("update_every", self.update_every)
        check_positive("max_learning_rate", self.max_learning_rate)
        check_positive("norm_epsilon", self.norm_epsilon)
        if self.clip is not None:
            check_positive("clip", self.clip)
        if self.persistent_tokens < 0:
            raise InputError(
                f"persistent_tokens is {self.persistent_tokens}; give 0 (none) or more"
            )

    @property
    def step_of_repeated_keys(self) -> float:
        """Return the largest step of a window in which all keys are equal.

        Above 2, the write overshoots by more than the error, and the memory grows (this
        is exact for a linear memory without momentum).
        """
        factor = 2.0 if self.loss == "full" else 1.0
        tokens = self.update_every * self.loss_window
        if self.scale_by_place:
            tokens = sum(1 / i for i in range(1, self.update_every + 1))
        return factor * self.max_learning_rate * tokens

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "TitansLMM":
        del layer_index
        return TitansLMM(self, width, rngs, depth)


SMALL_MEMORY = TitansLMMConfig(
    num_heads=2, memory_depth=1, update_every=4, chunk_size=8, persistent_tokens=0
)
"""Memory config for the `small` sizes of layers that hold a memory."""


class TitansLMM(NeuralMemoryLayer):
    """See `TitansLMMConfig`."""

    def __init__(self, config: TitansLMMConfig, width: int, rngs: nnx.Rngs, depth: int):
        size = resolve_head_size(width, config.num_heads, config.head_size)
        heads, inner = config.num_heads, config.num_heads * size
        self.config = config
        self.head_size = size
        self.network = MemoryNetwork(
            kind=config.network,
            key_size=size,
            value_size=size,
            hidden_size=size * config.memory_expansion,
            depth=config.memory_depth,
            activation=config.activation,
            residual=config.memory_residual,
            norm="fast" if config.memory_norm else "none",
        )
        self.write_rule = WriteRule(
            update_every=config.update_every,
            read=config.read,
            loss=config.loss,
            loss_window=config.loss_window,
            clip=config.clip,
            scale_by_place=config.scale_by_place,
            keep_row_norms=config.keep_row_norms,
        )
        self.has_momentum = config.momentum
        self.query, self.key, self.value = query_key_value(
            width,
            (inner, inner, inner),
            (heads, heads, heads),
            config.convolution_size,
            rngs,
        )
        self.accepts_prefix = config.prefix
        if config.prefix:
            self.encoder = Encoder(
                width,
                (inner, inner),
                (heads, heads),
                config.convolution_size,
                rngs,
                activation=True,
            )
        self.learning_rate = _gate(width, heads, rngs, start=0.0)
        self.momentum = (
            _gate(width, heads, rngs, start=0.0) if config.momentum else None
        )
        self.forget = _gate(width, heads, rngs, start=-5.0) if config.forget else None
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

    def prefix_tokens(self) -> Float[Array, "p d"] | None:
        return None if self.persistent is None else self.persistent[...]

    def inputs(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        (q, k, v), tails = self.streams(x, state.tails, layout)

        def gate(module: nnx.Linear | None) -> Array | None:
            if module is None:
                return None
            return jax.nn.sigmoid(module(x).astype(jnp.float32))

        rate = gate(self.learning_rate)
        assert rate is not None
        gates = Gates(
            learning_rate=self.config.max_learning_rate * rate,
            momentum=gate(self.momentum),
            forget=gate(self.forget),
        )
        tokens = NeuralTokens(l2_normalise(q), l2_normalise(k), v, gates)
        return MemoryInputs(tokens), tails

    def prefix_inputs(
        self, x: Float[Array, "b t d"], inputs: MemoryInputs, layout: Layout
    ) -> MemoryInputs:
        k, v = self.encoder(x, layout)
        tokens = inputs.tokens._replace(key=l2_normalise(k), value=v)
        return inputs._replace(tokens=tokens)


def _persistent(tokens: int, width: int, rngs: nnx.Rngs) -> nnx.Param | None:
    if not tokens:
        return None
    return nnx.Param(jax.random.normal(rngs.params(), (tokens, width), jnp.float32))


def _gate(width: int, heads: int, rngs: nnx.Rngs, *, start: float) -> nnx.Linear:
    """Return a map whose sigmoid is initially near sigmoid(start)."""
    gain = 1 / math.sqrt(width)
    module = projection(width, heads, rngs, bias=True, gain=gain, per_memory=True)
    assert module.bias is not None
    module.bias[...] = jnp.full((heads,), start, jnp.float32)
    return module
