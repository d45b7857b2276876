"""Loss over next tokens and masked tokens (JRT, arXiv 2407.05483)."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..data.batch import Batch
from ..data.prefix import Masking


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Loss of `PrefixConfig`: a weighted sum of two means over the whole batch.

    Attributes:
        mask_token: replaces a masked token, whose target is the token itself.
        mask_weight: weight of the mean masked-token loss; the next-token loss has
            weight 1.
        divide: whether to divide by the sum of both weights, as the paper does.
    """

    mask_token: int
    mask_weight: float
    divide: bool

    def weigh(self, batch: Batch) -> tuple[Batch, Float[Array, ""]]:
        """Return the batch with target weights whose weighted sum is the loss.

        The gradient stays linear in the targets: slices of the batch add up.

        Returns:
            The batch, and the divisor of the weighted sum.
        """
        tokens: Any = batch.tokens
        if batch.target_positions is not None:
            positions: Any = batch.target_positions
            tokens = jnp.take_along_axis(tokens, positions, axis=1)
        weights = jnp.asarray(batch.target_weights)
        masked = jnp.where(tokens == self.mask_token, weights, 0)
        following = weights - masked
        means = _mean(following) + self.mask_weight * _mean(masked)
        divisor = 1 + self.mask_weight if self.divide else 1
        return (
            batch._replace(target_weights=means),  # pyright: ignore
            jnp.asarray(divisor, means.dtype),
        )


def objective_of(task: object) -> Objective | None:
    """Return the objective that a task asks for; None: the mean over its targets."""
    masking: Masking | None = getattr(task, "masking", None)
    if masking is None:
        return None
    return Objective(
        mask_token=masking.token, mask_weight=masking.weight, divide=masking.divide
    )


def _mean(weights: Float[Array, "b n"]) -> Float[Array, "b n"]:
    """Return the weights scaled to sum to 1, or all 0."""
    total = jnp.sum(weights)
    return weights / jnp.where(total > 0, total, 1)
