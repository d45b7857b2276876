"""Chunked cross-entropy against a plain log-softmax, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.loss import (
    Auxiliary,
    LossSums,
    chunked_cross_entropy,
    token_losses,
)

BATCH, TARGETS, WIDTH, VOCAB = 2, 7, 5, 11


def _case():
    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.standard_normal((BATCH, TARGETS, WIDTH)))
    head = jnp.asarray(rng.standard_normal((VOCAB, WIDTH)))
    targets = jnp.asarray(rng.integers(0, VOCAB, (BATCH, TARGETS)))
    weights = jnp.asarray(rng.uniform(size=(BATCH, TARGETS))).at[0, 3].set(0)
    return hidden, head, targets, weights


def _plain(hidden, head, targets, weights):
    logits = hidden @ head.T
    chosen = jax.nn.one_hot(targets, VOCAB, dtype=logits.dtype)
    return -jnp.sum(jax.nn.log_softmax(logits) * chosen * weights[..., None])


@pytest.mark.parametrize("chunk", [1, 4, 6, 14, 1000])
def test_value_and_gradients_are_those_of_a_log_softmax(x64, chunk):
    hidden, head, targets, weights = _case()

    def chunked(hidden, head, weights):
        sums = chunked_cross_entropy(hidden, head, targets, weights, chunk_tokens=chunk)
        return sums.cross_entropy

    found = jax.jit(jax.value_and_grad(chunked, argnums=(0, 1, 2)))(
        hidden, head, weights
    )
    wanted = jax.value_and_grad(
        lambda h, e, w: _plain(h, e, targets, w), argnums=(0, 1)
    )(hidden, head, weights)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-12)
    for got, expected in zip(found[1], wanted[1], strict=False):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


def test_weight_and_right_answers_are_summed():
    hidden, head, targets, weights = _case()
    best = jnp.argmax(hidden @ head.T, axis=-1)
    targets = targets.at[1].set(best[1])
    sums = chunked_cross_entropy(hidden, head, targets, weights, chunk_tokens=4)
    right = np.asarray(best) == np.asarray(targets)
    np.testing.assert_allclose(sums.correct, np.sum(weights * right), rtol=1e-6)
    np.testing.assert_allclose(sums.weight, np.sum(weights), rtol=1e-6)
    assert sums.auxiliary == 0 and sums.parts == ()
    assert all(x.dtype == jnp.float32 and x.shape == () for x in sums[:-1])


@pytest.mark.parametrize("chunk", [2, 1000])
def test_what_stands_at_masked_targets_does_not_matter(chunk):
    hidden, head, targets, weights = _case()

    def loss(hidden, targets):
        sums = chunked_cross_entropy(hidden, head, targets, weights, chunk_tokens=chunk)
        return sums.cross_entropy

    found = jax.value_and_grad(loss)(hidden, targets.at[0, 3].set(-100))
    wanted = jax.value_and_grad(loss)(hidden, targets)
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_array_equal(found[1], wanted[1])
    np.testing.assert_array_equal(found[1][0, 3], 0)


def _largest(jaxpr):
    """Return the size of the program's largest array, loops included."""
    sizes = [out.aval.size for equation in jaxpr.eqns for out in equation.outvars]
    for equation in jaxpr.eqns:
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                sizes.append(_largest(inner))
    return max(sizes, default=0)


@pytest.mark.parametrize(("chunk", "held"), [(4, 4), (1000, 64)])
def test_only_a_chunk_of_logits_exists(chunk, held):
    targets = jnp.zeros((2, 32), jnp.int32)
    weights = jnp.ones((2, 32))

    def loss(hidden, head):
        return chunked_cross_entropy(
            hidden, head, targets, weights, chunk_tokens=chunk
        ).cross_entropy

    vocabulary = 500
    program = jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(
        jnp.ones((2, 32, 3)), jnp.ones((vocabulary, 3))
    )
    assert _largest(program.jaxpr) == held * vocabulary


def test_large_logits_do_not_overflow():
    hidden = jnp.full((1, 1, 1), 1e4)
    head = jnp.array([[1.0], [-1.0], [1.0]])
    nats, correct = token_losses(hidden, head, jnp.array([[0]]))
    np.testing.assert_allclose(nats, np.log(2), rtol=1e-6)
    np.testing.assert_array_equal(correct, 1)


def test_mean_is_a_target_and_adds_the_auxiliary_loss():
    one = jnp.ones(())
    parts = (Auxiliary.scalar(jnp.array([0.25, 0.25])),)
    assert LossSums(6 * one, 3 * one, one, parts).mean == 2.5
    assert LossSums(0 * one, 0 * one, one, ()).mean == 0


def test_scalars_are_averaged_over_slices_and_added_over_layers():
    slices = [Auxiliary.scalar(jnp.array([a, 1.0])) for a in (1.0, 4.0)]
    np.testing.assert_allclose(jax.tree.map(jnp.add, *slices).value, 2.5 + 1.0)
