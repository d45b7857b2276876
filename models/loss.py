"""Chunked cross-entropy: the logits of a whole batch never exist at once."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Auxiliary:
    """A term that layers add to the mean loss of a batch: a function of sums.

    The sums of a batch's slices are added before the function is applied, so the
    result does not depend on the slicing.

    Attributes:
        sums: arrays that add up over slices; the first axis is the layers.
        of: function from the sums of one layer to its term; pure and hashable.
    """

    sums: Any
    of: Callable[[Any], Array] = field(metadata={"static": True})

    @classmethod
    def scalar(cls, value: Float[Array, "*layers"]) -> "Auxiliary":
        """Return the term for one scalar, or one per layer, averaged over slices."""
        return cls((value, jnp.ones_like(value)), _ratio)

    @property
    def value(self) -> Float[Array, ""]:
        """Return the term, summed over the layers."""
        return jnp.sum(jax.vmap(self.of)(self.sums))


def _ratio(sums: tuple[Array, Array]) -> Array:
    return sums[0] / sums[1]


def auxiliary_loss(parts: tuple[Auxiliary, ...]) -> Float[Array, ""]:
    """Return the sum of the layers' terms from the sums of the batch."""
    return sum((part.value for part in parts), jnp.zeros((), jnp.float32))


class LossSums(NamedTuple):
    """Sums that add up over slices of a batch; divide once, by `weight`.

    Attributes:
        cross_entropy: sum of weights times nats.
        weight: sum of the target weights.
        correct: sum of the weights of targets with the largest logit.
        parts: auxiliary losses of the layers, as sums.
    """

    cross_entropy: Float[Array, ""]
    weight: Float[Array, ""]
    correct: Float[Array, ""]
    parts: tuple[Auxiliary, ...]

    @property
    def auxiliary(self) -> Float[Array, ""]:
        """Return the sum of the auxiliary losses, already weighted."""
        return auxiliary_loss(self.parts)

    @property
    def mean(self) -> Float[Array, ""]:
        """Return the mean nats per target, auxiliary losses included."""
        return self.cross_entropy / jnp.maximum(self.weight, 1e-8) + self.auxiliary


def token_losses(
    hidden: Float[Array, "b n d"],
    head: Float[Array, "y d"],
    targets: Int[Array, "b n"],
) -> tuple[Float[Array, "b n"], Float[Array, "b n"]]:
    """Return the nats of every target, and 1 where it has the largest logit.

    Both are in float32 or wider.
    """
    wide = jnp.promote_types(hidden.dtype, jnp.float32)
    logits = jnp.einsum("bnd,yd->bny", hidden, head, preferred_element_type=wide)
    top = jnp.max(logits, axis=-1)
    shifted = logits - jax.lax.stop_gradient(top)[..., None]
    normaliser = jnp.log(jnp.sum(jnp.exp(shifted), axis=-1))
    own = jnp.take_along_axis(shifted, targets[..., None], axis=-1)[..., 0]
    best = jnp.argmax(logits, axis=-1).astype(targets.dtype)
    return normaliser - own, (best == targets).astype(wide)


def chunked_cross_entropy(
    hidden: Float[Array, "b n d"],
    head: Float[Array, "y d"],
    targets: Int[Array, "b n"],
    weights: Float[Array, "b n"],
    *,
    chunk_tokens: int,
) -> LossSums:
    """Return the sums of cross-entropy and of correct predictions.

    Args:
        head: output embedding.
        chunk_tokens: number of targets whose logits are computed at once; affects
            speed and memory only.
    """
    batch, targets_a_row = targets.shape
    wide = jnp.promote_types(hidden.dtype, jnp.float32)
    weights = weights.astype(wide)
    size = min(max(1, chunk_tokens // batch), targets_a_row)
    chunks = -(-targets_a_row // size)
    padding = chunks * size - targets_a_row

    def cut(a: Array) -> Array:
        a = jnp.pad(a, ((0, 0), (0, padding)) + ((0, 0),) * (a.ndim - 2))
        return jnp.moveaxis(a.reshape(batch, chunks, size, *a.shape[2:]), 1, 0)

    def one(head: Array, chunk: tuple) -> tuple[Array, Array]:
        hidden, targets, weights = chunk
        nats, correct = token_losses(hidden, head, targets)
        # A skipped target may not be a token (-100, say): its loss is not finite.
        nats = jnp.where(weights == 0, 0, nats)
        return jnp.sum(nats * weights), jnp.sum(correct * weights)

    if chunks == 1:
        nats, correct = one(head, (hidden, targets, weights))
    else:
        body = jax.checkpoint(one)

        def add(sums: tuple, chunk: tuple) -> tuple[tuple, None]:
            nats, correct = body(head, chunk)
            return (sums[0] + nats, sums[1] + correct), None

        zero = jnp.zeros((), wide)
        (nats, correct), _ = jax.lax.scan(
            add, (zero, zero), (cut(hidden), cut(targets), cut(weights))
        )
    return LossSums(nats, jnp.sum(weights), correct, ())
