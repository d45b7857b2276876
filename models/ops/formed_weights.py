"""Weights formed after every token of a part, for rules that are not linear.

Newton-Schulz steps and links act on whole matrices. Sums of gradients up to each token
are matrix products over the part's tokens; then all matrices are mapped at once.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .fast_gradients import product
from .memory_network import EachWeights, Plain, Weights
from .write_rule import WriteRule, orthogonalised, used_weights
from .write_schedule import Schedule


class Formed(Plain):
    """Weights after every token, each applied to the query of its token."""

    weights: EachWeights

    def matrix(self, name: str, x: Array) -> Array:
        return product("bhci,bhcio->bhco", x, self.weights[name], self.operand)

    def scale(self, name: str, x: Array) -> Array:
        return x * self.weights[name]

    def shift(self, name: str, x: Array) -> Array:
        return x + self.weights[name]


def after_every_token(
    weights: Weights,
    momentum: Weights | None,
    schedule: Schedule,
    written: EachWeights,
) -> EachWeights:
    """Return kept_t W_0 + pushed_t S_0 + the written sums after every token."""

    def scaled(by: Float[Array, "b h c"], x: Float[Array, "b h ..."]) -> Array:
        return by.reshape(by.shape + (1,) * (x.ndim - 2)) * x[:, :, None]

    formed = {}
    for name, x in weights.items():
        formed[name] = scaled(schedule.kept, x) + written[name]
        if momentum is not None and schedule.pushed is not None:
            formed[name] = formed[name] + scaled(schedule.pushed, momentum[name])
    return formed


def steps_along(
    momentum: EachWeights, schedule: Schedule, rule: WriteRule
) -> EachWeights:
    """Return the sums up to every token of steps along the orthogonalised momentum.

    Args:
        momentum: momentum after every token.
        schedule: schedule of the weights, in which the gradient of a token is the
            negated step.
        rule: rule of the writes.
    """
    steps = jax.vmap(lambda s: orthogonalised(s, rule), 2, 2)(momentum)
    return {
        name: jnp.einsum("bhts,bhs...->bht...", schedule.written, step)
        for name, step in steps.items()
    }


def used_after_every_token(weights: EachWeights, rule: WriteRule) -> EachWeights:
    """Return the weights that the network uses after every token."""
    return jax.vmap(lambda w: used_weights(w, rule), 2, 2)(weights)


def shifted(first: Weights, formed: EachWeights) -> EachWeights:
    """Return the weights before every token's write instead of after it."""

    def shift(start: Array, x: Array) -> Array:
        return jnp.concatenate([start[:, :, None], x[:, :, :-1]], axis=2)

    return jax.tree.map(shift, first, formed)


def last(formed: EachWeights) -> Weights:
    """Return the weights after the last token."""
    return jax.tree.map(lambda x: x[:, :, -1], formed)
