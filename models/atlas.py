"""ATLAS: OmegaNet with Muon, whose steps follow the orthogonalised momentum."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array

from .layer_checks import check_positive
from .omega_net import OmegaNet, OmegaNetConfig
from .ops.write_rule import WriteRule
from .regression import Regression


@dataclass(frozen=True, kw_only=True)
class AtlasConfig(OmegaNetConfig):
    """ATLAS (Behrouz et al. 2025, arXiv:2505.23735).

    Per head, with the names of `OmegaNetConfig` (equations 32 and 33):

        u_t = grad_M sum_(i = t - c + 1 .. t) ||M'(phi(k_i)) - v_i||^2
        S_t = eta_t S_(t-1) - u_t
        M_t = (1 - alpha_t) M_(t-1) + theta_t NS(S_t)

    NS moves the singular values of each matrix of the momentum to between 0.7 and 1.2
    by `newton_schulz_steps` steps, so theta alone sets the size of a step. The paper
    calls the momentum's gate theta and the step's eta.

    Differs from it in: the points of `OmegaNetConfig`; a momentum with a norm below
    0.001 stays short under NS, since its direction is noise. NS is computed at every
    token, as printed: all momenta of a chunk are formed by products, pass through NS
    together, and are summed into the weights by products.
    """

    regression: ClassVar[Regression | None] = Regression(
        "scalar_decay", "mlp", "online_momentum"
    )
    small: ClassVar[Mapping[str, Any]] = {
        **OmegaNetConfig.small,
        "newton_schulz_steps": 2,
    }

    newton_schulz_steps: int = 5
    """Steps of the Newton-Schulz iteration."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("newton_schulz_steps", self.newton_schulz_steps)

    def write_rule(self) -> WriteRule:
        steps = self.newton_schulz_steps
        return dataclasses.replace(super().write_rule(), newton_schulz_steps=steps)

    @property
    def has_momentum(self) -> bool:
        return True

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "Atlas":
        del layer_index
        return Atlas(self, width, rngs, depth)


class Atlas(OmegaNet):
    """See `AtlasConfig`."""
