"""One chunk: its backward pass is the gradient of its forward pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.feature_maps import taylor_size
from memzoo.models.ops.taylor_attention_chunk import backward, forward


@pytest.mark.parametrize("segment", [None, [[0, 0, 1, 1, 2]]], ids=["whole", "starts"])
def test_the_backward_pass_is_the_gradient_of_the_forward_pass(x64, segment):
    rng = np.random.default_rng(0)
    tokens = tuple(jnp.asarray(rng.standard_normal((1, 5, 2, n))) for n in (3, 3, 4))
    memory = jnp.asarray(rng.standard_normal((1, 2, taylor_size(3), 4)))
    starts = None if segment is None else jnp.asarray(segment)

    def plain(memory, tokens):
        after, o, saved = forward(memory, tokens, starts)
        assert saved == ()
        return after, o

    (after, o), pull = jax.vjp(plain, memory, tokens)
    cotangents = tuple(jnp.asarray(rng.standard_normal(x.shape)) for x in (after, o))
    found = backward(memory, tokens, starts, (), *cotangents)
    for got, wanted in zip(
        *map(jax.tree.leaves, (found, pull(cotangents))), strict=True
    ):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)
