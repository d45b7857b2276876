"""OmegaNet: a neural memory that fits several recent tokens at every token."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from .gated_neural_memory import GatedNeuralMemory, GatedNeuralMemoryConfig
from .layer_checks import check_positive
from .ops.feature_maps import polynomial, polynomial_size
from .ops.memory_network import MemoryNetwork
from .ops.write_rule import WriteRule
from .regression import Regression


@dataclass(frozen=True, kw_only=True)
class OmegaNetConfig(GatedNeuralMemoryConfig):
    """OmegaNet of ATLAS (Behrouz et al. 2025, arXiv:2505.23735).

    Per head, with keys and queries of length 1, phi their monomials up to `degree`, M a
    small network and M' the memory before the window of t (equations 9 and 10):

        u_t = grad_M sum_(i = t - c + 1 .. t) ||M'(phi(k_i)) - v_i||^2
        M_t = (1 - alpha_t) M_(t-1) - theta_t u_t
        y_t = W_o (norm(M_t(phi(q_t))) * silu(W_g x_t))

    with c = `loss_window`. phi(q) . phi(k) = sum_n a_n s^n with s = q . k; the a_n are
    learned, one set for the layer, and begin at 1 / n!.

    Differs from it in: the weights gamma of the c losses are all theta_t (how the paper
    computes them is not known); the printed value term of its linear form has the wrong
    sign, and the code follows the loss; the network has no residual, because phi(k) is
    longer than v; keys are shorter than values, so that phi(k) is not too long;
    gradients longer than `clip` are shortened to it (None: as published).
    """

    regression: ClassVar[Regression | None] = Regression(
        "scalar_decay", "mlp", "online"
    )
    small: ClassVar[Mapping[str, Any]] = {
        "update_every": 4,
        "memory_depth": 1,
        "feature_size": 2,
        "loss_window": 3,
    }

    feature_size: int = 8
    """Size of each head's queries and keys, before the feature map."""
    degree: int = 2
    """Highest degree of the monomials; 1: a constant and the key."""
    loss_window: int = 4
    """Number of tokens whose losses are summed at each token."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("feature_size", "degree", "loss_window"):
            check_positive(name, getattr(self, name))

    def write_rule(self) -> WriteRule:
        return WriteRule(
            update_every=self.update_every,
            loss_window=self.loss_window,
            clip=self.clip,
        )

    def memory_network(self, size: int) -> MemoryNetwork:
        features = polynomial_size(self.feature_size, self.degree)
        return dataclasses.replace(super().memory_network(size), key_size=features)

    def query_size(self, size: int) -> int:
        return self.feature_size

    @property
    def squared_key(self) -> float:
        return sum(1 / math.factorial(n) for n in range(self.degree + 1))

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "OmegaNet":
        del layer_index
        return OmegaNet(self, width, rngs, depth)


class OmegaNet(GatedNeuralMemory):
    """See `OmegaNetConfig`."""

    config: OmegaNetConfig

    def __init__(self, config: OmegaNetConfig, width: int, rngs: nnx.Rngs, depth: int):
        super().__init__(config, width, rngs, depth)
        self.feature_scale = nnx.Param(jnp.ones((config.degree + 1,), jnp.float32))

    def features(self, x: Float[Array, "b t h k"]) -> Float[Array, "b t h f"]:
        degree, size = self.config.degree, self.config.feature_size
        # The monomials are in the order of their degrees.
        counts = [1] + [
            polynomial_size(size, n) - polynomial_size(size, n - 1)
            for n in range(1, degree + 1)
        ]
        degrees = np.repeat(np.arange(degree + 1), counts)
        scale = self.feature_scale[...][degrees].astype(x.dtype)
        return polynomial(x, degree) * scale[None, None, None]
