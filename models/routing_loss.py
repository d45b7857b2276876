"""Auxiliary loss of a router: a function of sums over the tokens of a batch."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class RoutingSums(NamedTuple):
    """Sums over the real tokens of a batch.

    Attributes:
        tokens: number of tokens.
        chosen: number of tokens that chose each memory.
        probability: probability of each memory.
        z: square of the logsumexp of the router's logits.
    """

    tokens: Float[Array, ""]
    chosen: Float[Array, "m"]
    probability: Float[Array, "m"]
    z: Float[Array, ""]

    def mean(self, total: Float[Array, "*m"]) -> Float[Array, "*m"]:
        """Return the mean over the tokens; 0 if there are none."""
        return total / jnp.maximum(self.tokens, 1)

    @property
    def balance(self) -> Float[Array, ""]:
        """Return M times the sum over memories of f_m P_m."""
        shares = self.mean(self.chosen) * self.mean(self.probability)
        return shares.size * jnp.sum(shares)


@dataclass(frozen=True)
class RoutingLoss:
    """Loss that one layer adds, from the sums over the tokens of a batch."""

    balance_scale: float
    z_scale: float
    depth: int

    def __call__(self, sums: RoutingSums) -> Float[Array, ""]:
        loss = self.balance_scale * sums.balance + self.z_scale * sums.mean(sums.z)
        return loss / self.depth
