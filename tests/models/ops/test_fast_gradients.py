"""Values, gradients and second gradients against the plain formulas."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops import fast_gradients as ops


def plain_standardise(x):
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return centred / jnp.sqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-6)


ROWS, LONG = (2, 3, 5, 4), (2, 3, 5)
CASES = {
    "product": (
        lambda x, y: ops.product("bhck,bhfk->bhcf", x, y, jnp.float64),
        lambda x, y: jnp.einsum("bhck,bhfk->bhcf", x, y),
        (ROWS, (2, 3, 6, 4)),
    ),
    "product over tokens": (
        lambda x, y: ops.product("bhck,bhcv->bhkv", x, y, jnp.float64),
        lambda x, y: jnp.einsum("bhck,bhcv->bhkv", x, y),
        (ROWS, (2, 3, 5, 3)),
    ),
    "scale_rows": (ops.scale_rows, lambda x, f: x * f[..., None], (ROWS, LONG)),
    "row_product": (ops.row_product, lambda x, y: jnp.sum(x * y, -1), (ROWS, ROWS)),
    "over_rows": (
        lambda x: ops.over_rows(x, 5),
        lambda x: jnp.broadcast_to(x[:, :, None], ROWS),
        ((2, 3, 4),),
    ),
    "gelu": (ops.gelu, partial(jax.nn.gelu, approximate=True), (ROWS,)),
    "standardise": (ops.standardise, plain_standardise, (ROWS,)),
}


@pytest.mark.parametrize("name", list(CASES))
def test_gradients_by_hand_are_the_gradients(x64, name):
    fast, plain, shapes = CASES[name]
    rng = np.random.default_rng(0)
    inputs = tuple(jnp.asarray(rng.standard_normal(s)) for s in shapes)
    places = tuple(range(len(inputs)))

    def results(function):
        def total(*inputs):
            y = function(*inputs)
            mix = jnp.cos(jnp.arange(y.size)).reshape(y.shape)
            return jnp.sum(mix * y * y)

        first = jax.grad(total, argnums=places)

        def again(*inputs):
            return sum(jnp.sum(jnp.sin(g) * g) for g in first(*inputs))

        return function(*inputs), first(*inputs), jax.grad(again, places)(*inputs)

    actual, expected = (jax.jit(lambda f=f: results(f))() for f in (fast, plain))
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_a_row_of_equal_numbers_has_a_finite_gradient():
    gradient = jax.grad(lambda x: jnp.sum(ops.standardise(x) ** 2))(jnp.ones((2, 4)))
    np.testing.assert_array_equal(gradient, np.zeros((2, 4)))


@pytest.mark.parametrize(("tokens", "products"), [(31, 4), (32, 3)])
def test_products_of_many_rows_are_kept_and_of_few_made_again(tokens, products):
    def total(x, weight):
        y = ops.product("bhck,bhkv->bhcv", x, weight, jnp.float32)
        return jnp.sum(jnp.sin(y))

    inputs = jnp.ones((1, 1, tokens, 2)), jnp.ones((1, 1, 2, 3))
    kept = jax.grad(jax.checkpoint(total, policy=ops.keep_rows), argnums=(0, 1))
    assert str(jax.make_jaxpr(kept)(*inputs)).count("dot_general") == products
    for a, b in zip(kept(*inputs), jax.grad(total, (0, 1))(*inputs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
