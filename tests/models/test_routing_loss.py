"""Losses of a router from sums, for whole and for sliced batches."""

import jax
import jax.numpy as jnp
import numpy as np

from memzoo.models.routing_loss import RoutingLoss, RoutingSums

LOSS = RoutingLoss(balance_scale=0.5, z_scale=0.25, depth=2)


def sums(tokens, chosen, probability, z):
    given = (tokens, chosen, probability, z)
    return RoutingSums(*(jnp.asarray(each, jnp.float32) for each in given))


def test_the_formula():
    found = LOSS(sums(4, [4, 0], [3, 1], 8))
    balance = 2 * (1 * 0.75 + 0 * 0.25)
    np.testing.assert_allclose(found, (0.5 * balance + 0.25 * 2) / 2, rtol=1e-6)


def test_sums_of_slices_are_not_the_mean_of_their_losses():
    one, other = sums(2, [2, 0], [2, 0], 0), sums(2, [0, 2], [0, 2], 0)
    assert float(one.balance) == float(other.balance) == 2.0
    assert float(jax.tree.map(jnp.add, one, other).balance) == 1.0


def test_no_token_is_no_loss():
    assert float(LOSS(sums(0, [0, 0], [0, 0], 0))) == 0.0


def test_equal_losses_are_one_static_value():
    """Layers with the same config compile to one program."""
    same = RoutingLoss(balance_scale=0.5, z_scale=0.25, depth=2)
    assert same == LOSS and hash(same) == hash(LOSS)
