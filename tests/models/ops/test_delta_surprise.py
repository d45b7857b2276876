"""The surprise of the delta rule; its reads are tested with the delta rule."""

import jax
import jax.numpy as jnp
import numpy as np

from memzoo.models.ops.delta_rule import DELTA_RULE, DeltaTokens
from memzoo.models.ops.delta_surprise import DELTA_SURPRISE


def test_surprise_is_the_norm_of_the_change(x64, make_tokens):
    tokens, memory = make_tokens(DeltaTokens, (6, 5), 1, decay="mild")
    token = jax.tree.map(lambda x: x[:, 0], tokens)
    o, after = DELTA_SURPRISE.step(token, memory)
    read, wanted = DELTA_RULE.step(token, memory)
    np.testing.assert_array_equal(o[..., :-1], read)
    np.testing.assert_array_equal(after, wanted)
    decayed = memory * np.exp(token.log_decay)[..., None, None]
    change = np.linalg.norm(after - decayed, axis=(-2, -1))
    np.testing.assert_allclose(o[..., -1], change, rtol=1e-12)


def test_the_fast_forms_equal_the_reference(x64, make_tokens, make_reset, assert_forms):
    tokens, memory = make_tokens(DeltaTokens, (6, 5), 19, decay="mild")
    assert_forms(DELTA_SURPRISE, tokens, memory, make_reset("inside", 19))


def test_no_gradient_passes_through_surprise(make_tokens):
    tokens, memory = make_tokens(DeltaTokens, (6, 5), 3)

    def loss(memory):
        return jnp.sum(DELTA_SURPRISE.recurrent(tokens, memory)[0][..., -1])

    assert not np.any(jax.jit(jax.grad(loss))(memory))
