"""The linear map against automatic differentiation."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.linear_map import linear_map


def _plain(x, kernel):
    return x @ kernel


def _draw(*shapes):
    draw = np.random.default_rng(0)
    return [jnp.asarray(draw.standard_normal(shape)) for shape in shapes]


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (2, 3, 4, 5), (0, 5)])
def test_values_and_gradients_are_those_of_a_product(x64, shape):
    x, kernel, back = _draw(shape, (5, 7), (*shape[:-1], 7))
    expected, pull = jax.vjp(_plain, x, kernel)
    found, own_pull = jax.vjp(linear_map, x, kernel)
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    for ours, theirs in zip(own_pull(back), pull(back), strict=True):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_copies_of_a_kernel_are_mapped_over(x64):
    x, kernels = _draw((3, 5), (4, 5, 7))

    def loss(apply, x, kernels):
        return jnp.sum(jax.vmap(apply, (None, 0))(x, kernels) ** 3)

    for number in (1, 2):
        found = jax.grad(loss, argnums=number)(linear_map, x, kernels)
        expected = jax.grad(loss, argnums=number)(_plain, x, kernels)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_it_may_be_differentiated_twice(x64):
    x, kernel = _draw((3, 5), (5, 5))

    def steep(apply, kernel):
        inner = jax.grad(lambda x: jnp.sum(jnp.tanh(apply(x, kernel)) ** 2))
        return jnp.sum(inner(x) ** 2)

    found = jax.grad(steep, argnums=1)(linear_map, kernel)
    expected = jax.grad(steep, argnums=1)(_plain, kernel)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_gradients_have_the_type_of_what_they_belong_to():
    x, kernel = jnp.ones((3, 5), jnp.bfloat16), jnp.ones((5, 7), jnp.bfloat16)
    y, pull = jax.vjp(linear_map, x, kernel)
    assert {y.dtype, *(a.dtype for a in pull(y))} == {jnp.dtype(jnp.bfloat16)}


def test_a_policy_that_keeps_products_keeps_this_one():
    def loss(x, a, b):
        return jnp.sum(jnp.sin(linear_map(jnp.sin(linear_map(x, a)), b)))

    kept = jax.checkpoint(loss, policy=jax.checkpoint_policies.dots_saveable)
    made = jax.make_jaxpr(jax.grad(kept, argnums=(1, 2)))(
        jnp.ones((2, 8, 16)), jnp.ones((16, 32)), jnp.ones((32, 16))
    )
    # Two products forward and two for each gradient; none is recomputed.
    assert str(made).count("dot_general") == 6


def test_another_width_is_refused():
    with pytest.raises(ValueError, match="the input has width 3; give it the width 2"):
        inspect.unwrap(linear_map)(jnp.ones((4, 3)), jnp.ones((2, 5)))
