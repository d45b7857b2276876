"""Titans' long-term memory: a network that is trained on the sequence it reads."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from flax import nnx
from jaxtyping import Array, Float

from .gated_neural_memory import GatedNeuralMemory, GatedNeuralMemoryConfig
from .interface import Layout
from .layer_checks import check_positive
from .memory_inputs import MemoryInputs
from .ops.memory_network import MemoryNetwork
from .ops.normalisation import l2_normalise
from .ops.write_rule import WriteRule
from .regression import Regression
from .streams import Encoder


@dataclass(frozen=True, kw_only=True)
class TitansLMMConfig(GatedNeuralMemoryConfig):
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

    regression: ClassVar[Regression | None] = Regression(
        "scalar_decay", "mlp", "online_momentum"
    )
    small: ClassVar[Mapping[str, Any]] = {
        "update_every": 4,
        "memory_depth": 1,
        "persistent_tokens": 2,
    }

    network: Literal["mlp", "swiglu"] = "mlp"
    """Network that serves as the memory."""
    memory_residual: bool = False
    """Add the memory's input to its output."""
    memory_norm: bool = False
    """Apply layer norm to the memory's output; its scale and bias are in the memory."""
    momentum: bool = True
    """Use past surprise, eta; False: eta = 0."""
    read: Literal["after", "before", "window"] = "after"
    """Read the memory after or before the token's own write, or before its window."""
    loss: Literal["full", "half"] = "full"
    """||error||^2 as published, or half of it."""
    loss_window: int = 1
    """Number of tokens whose losses are summed at each token (Omega rule of ATLAS)."""
    scale_by_place: bool = False
    """Divide theta by the token's place in its window, from 1."""
    keep_row_norms: bool = False
    """Restore the initial row norms of the memory's matrices at every window."""
    persistent_tokens: int = 4
    """Number of learned tokens that a new memory has read; 0: none."""
    prefix: bool = False
    """Accept a prefix; adds maps to the prefix's keys and values."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("loss_window", self.loss_window)

    def write_rule(self) -> WriteRule:
        return WriteRule(
            update_every=self.update_every,
            read=self.read,
            loss=self.loss,
            loss_window=self.loss_window,
            clip=self.clip,
            scale_by_place=self.scale_by_place,
            keep_row_norms=self.keep_row_norms,
        )

    def memory_network(self, size: int) -> MemoryNetwork:
        return dataclasses.replace(
            super().memory_network(size),
            kind=self.network,
            residual=self.memory_residual,
            norm="fast" if self.memory_norm else "none",
        )

    @property
    def has_momentum(self) -> bool:
        return self.momentum

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "TitansLMM":
        del layer_index
        return TitansLMM(self, width, rngs, depth)


SMALL_MEMORY = TitansLMMConfig(
    num_heads=2, memory_depth=1, update_every=4, chunk_size=8, persistent_tokens=0
)
"""Memory config for the `small` sizes of layers that hold a memory."""


class TitansLMM(GatedNeuralMemory):
    """See `TitansLMMConfig`."""

    config: TitansLMMConfig

    def make_encoder(self, width: int, rngs: nnx.Rngs) -> None:
        config, heads = self.config, self.config.num_heads
        self.accepts_prefix = config.prefix
        if config.prefix:
            inner = heads * self.head_size
            self.encoder = Encoder(
                width,
                (inner, inner),
                (heads, heads),
                config.convolution_size,
                rngs,
                activation=True,
            )

    def prefix_inputs(
        self, x: Float[Array, "b t d"], inputs: MemoryInputs, layout: Layout
    ) -> MemoryInputs:
        k, v = self.encoder(x, layout)
        tokens = inputs.tokens._replace(key=l2_normalise(k), value=v)
        return inputs._replace(tokens=tokens)
