import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.scalar_decay_chunk import backward, forward


@pytest.mark.parametrize("decays", [True, False])
@pytest.mark.parametrize("resets", [True, False])
def test_backward_equals_autodiff_of_forward(
    x64, make_inputs, make_reset, decays, resets
):
    inputs = make_inputs(8)
    log_decay = inputs["log_decay"] if decays else None
    memory = inputs["memory"]
    tokens = (inputs["q"], inputs["k"], inputs["v"], log_decay)
    segment = jnp.cumsum(make_reset("inside", 8), axis=1, dtype=jnp.int32)
    segment = segment if resets else None
    rng = np.random.default_rng(1)
    dmemory, do = (
        jnp.asarray(rng.standard_normal(x.shape)) for x in (memory, inputs["v"])
    )

    def expect(memory, tokens):
        run = jax.vjp(lambda *x: forward(*x, segment)[:2], memory, tokens)
        return run[1]((dmemory, do))

    def find(memory, tokens):
        saved = forward(memory, tokens, segment)[2]
        return backward(memory, tokens, segment, saved, dmemory, do)

    expected = jax.jit(expect)(memory, tokens)
    found = jax.jit(find)(memory, tokens)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for got, wanted in zip(
        jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)
