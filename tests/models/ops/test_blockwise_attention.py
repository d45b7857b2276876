"""Properties of the blockwise form: small arrays, and one result for all tile sizes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from memzoo.models.ops.blockwise_attention import blockwise_attention
from memzoo.models.ops.visibility import Places

TIME = 512
BLOCK = 32


def sizes(jaxpr):
    """Return the sizes of all arrays of a program, including loops and calls."""
    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            yield math.prod(variable.aval.shape)
        for inner in jaxprs_in_params(equation.params):
            yield from sizes(inner)


@pytest.mark.parametrize("window", [None, 100])
@pytest.mark.parametrize("with_places", [False, True])
def test_no_array_grows_with_both_lengths(window, with_places):
    zeros = jnp.zeros((1, TIME), jnp.int32)
    index = jnp.arange(TIME)[None]
    places = Places(zeros, index, zeros, index) if with_places else None
    run = functools.partial(
        blockwise_attention,
        scale=0.5,
        window=window,
        places=places,
        block_size=BLOCK,
    )
    inputs = [jnp.zeros((1, TIME, heads, 4)) for heads in (2, 1, 1)]

    def both(q, k, v, o_bar):
        o, back = jax.vjp(run, q, k, v)
        return o, *back(o_bar)

    program = jax.make_jaxpr(both)(*inputs, inputs[0])
    assert max(sizes(program.jaxpr)) <= 16 * TIME
    if window is None:
        compiled = jax.jit(both).lower(*inputs, inputs[0]).compile()
        used = compiled.memory_analysis().temp_size_in_bytes
        assert used < 4 * TIME * TIME / 4


@pytest.mark.parametrize("case", ["window", "documents"])
def test_all_rows_at_once_equal_one_by_one(case, x64):
    rng = np.random.default_rng(0)
    inputs = [
        jnp.asarray(rng.standard_normal((2, 21, heads, 4))) for heads in (4, 2, 2, 4)
    ]
    segment = jnp.asarray(np.cumsum(rng.random((2, 21)) < 0.2, axis=1))
    index = jnp.tile(jnp.arange(21), (2, 1))
    places = Places(segment, index, segment, index) if case == "documents" else None

    def run(form):
        @jax.jit
        def both(q, k, v, o_bar):
            attend = functools.partial(
                blockwise_attention,
                scale=0.5,
                window=5 if case == "window" else None,
                places=places,
                block_size=8,
                form=form,
            )
            o, back = jax.vjp(attend, q, k, v)
            return o, *back(o_bar)

        return both(*inputs)

    for parallel, scan in zip(run("parallel"), run("scan"), strict=True):
        np.testing.assert_allclose(parallel, scan, rtol=1e-9, atol=1e-12)
