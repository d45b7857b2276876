"""Linear forms of chunks against the chunks that they describe."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.delta_rule import DELTA_RULE
from memzoo.models.ops.scalar_decay import SCALAR_DECAY


@pytest.mark.parametrize("rule", [SCALAR_DECAY, DELTA_RULE], ids=["scalar", "delta"])
@pytest.mark.parametrize("segment", [[0] * 9, [0, 0, 1, 1, 1, 2, 2, 2, 2]], ids=str)
def test_the_maps_give_the_outputs_and_the_memory(x64, make_tokens, rule, segment):
    tokens, memory = make_tokens(rule.tokens, (6, 5), 9, decay="mixed")
    segment = jnp.asarray([segment, [0] * 9], jnp.int32)
    linear = jax.jit(functools.partial(rule.linear_chunk, dtype=memory.dtype))
    part = jax.tree.map(np.asarray, linear(tokens, segment))
    value = np.swapaxes(np.asarray(tokens.value), 1, 2)
    after, o, _ = jax.jit(rule.chunk)(memory, tokens, segment)
    near = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12)
    near(np.swapaxes(o, 1, 2), part.reads @ memory + part.within @ value)
    left = part.kept[..., None, None] * memory
    if part.erased is not None:
        left = left - part.erased @ memory
    near(after, left + np.swapaxes(part.writes, 2, 3) @ value)
