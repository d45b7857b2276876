"""Counted FLOPs against counts by hand."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from memzoo.models.block import Group
from memzoo.models.delta_net import DeltaNetConfig
from memzoo.models.flops import count_flops
from memzoo.models.language_model import LanguageModelConfig
from memzoo.models.linear_attention import LinearAttentionConfig


def _array(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_a_product_of_matrices():
    assert count_flops(jnp.matmul, _array(3, 5), _array(5, 7)) == 2 * 3 * 5 * 7
    batched = count_flops(
        lambda a, b: jnp.einsum("bij,bjk->bik", a, b), _array(4, 3, 5), _array(4, 5, 7)
    )
    assert batched == 4 * 2 * 3 * 5 * 7


def test_elementwise_operations_and_sums():
    assert count_flops(lambda x: jnp.exp(x) * x, _array(3, 5)) == 2 * 15
    assert count_flops(lambda x: jnp.sum(x, axis=1), _array(3, 5)) == 15


def test_moving_numbers_costs_nothing():
    assert count_flops(lambda x: x.T.reshape(-1)[::2], _array(4, 4)) == 0


def _powers(x, times):
    return jax.lax.scan(lambda y, _: (y @ x, None), x, length=times)[0]


def test_a_scan_counts_as_often_as_it_runs():
    assert count_flops(lambda x: _powers(x, 6), _array(3, 3)) == 6 * 54


def test_a_linear_solve_counts_its_solver():
    def solver(product, right):
        return _powers(jnp.outer(product(right), right), 4)[0]

    def run(x, b):
        solution = jax.lax.custom_linear_solve
        return solution(lambda y: x @ y, b, solver, symmetric=True)

    assert count_flops(run, _array(3, 3), _array(3)) == 18 + 9 + 4 * 54


def test_what_is_nested_counts_inside():
    @jax.jit
    def inner(x):
        return jax.checkpoint(lambda x: _powers(x, 2))(x)

    def outer(x):
        return jax.lax.scan(lambda y, _: (inner(y), None), x, length=5)[0]

    assert count_flops(outer, _array(3, 3)) == 5 * 2 * 54


def test_a_branch_counts_its_dearest_side():
    def choose(flag, x):
        return jax.lax.cond(flag, lambda x: x @ x @ x, lambda x: x @ x, x)

    flag = jax.ShapeDtypeStruct((), jnp.bool_)
    assert count_flops(choose, flag, _array(3, 3)) == 2 * 54


def test_a_loop_of_unknown_length_counts_once():
    def loop(count, x):
        return jax.lax.fori_loop(0, count, lambda _, y: y @ x, x)

    count = jax.ShapeDtypeStruct((), jnp.int32)
    # The loop's counter and condition add a few.
    assert 54 <= count_flops(loop, count, _array(3, 3)) <= 54 + 4


def test_own_gradients_are_looked_into():
    @jax.custom_vjp
    def cube(x):
        return x @ x @ x

    cube.defvjp(lambda x: (cube(x), x), lambda x, g: (g @ x @ x,))
    assert count_flops(cube, _array(3, 3)) == 2 * 54
    count = count_flops(jax.grad(lambda x: jnp.sum(cube(x))), _array(3, 3))
    assert 4 * 54 <= count <= 4 * 54 + 9


WIDTH, HEADS, VOCAB, MLP, REPEATS = 16, 2, 40, 24, 3


def _step_flops(layer, batch):
    model = LanguageModelConfig(
        vocab_size=VOCAB,
        width=WIDTH,
        pattern=(Group(layers=(layer,), repeats=REPEATS),),
        mlp_width=MLP,
    ).build(nnx.Rngs(0))
    token = jax.ShapeDtypeStruct((batch,), jnp.int32)
    state = jax.eval_shape(lambda: model.init_state(batch, 0))
    return count_flops(model.step, token, state)


@pytest.mark.parametrize(
    ("layer", "gates", "uses"),
    [
        # One write (an outer product) and one read of the memory, k by v.
        (
            LinearAttentionConfig(
                num_heads=HEADS, feature_map="identity", normaliser=False
            ),
            0,
            2,
        ),
        # Also one read for the error.
        (DeltaNetConfig(num_heads=HEADS), WIDTH * HEADS, 3),
    ],
    ids=["linear attention", "delta net"],
)
def test_a_step_of_a_language_model(layer, gates, uses):
    batch, size = 2, WIDTH // HEADS
    maps = 4 * WIDTH**2 + 3 * WIDTH * MLP + gates
    memory = uses * HEADS * size**2
    products = 2 * batch * (REPEATS * (maps + memory) + VOCAB * WIDTH)
    count = _step_flops(layer, batch)
    # Norms, convolutions, activations and residuals: tens of operations per channel.
    small = batch * REPEATS * 40 * (WIDTH + MLP)
    assert products * 0.95 < count < products + small


def test_a_loop_over_tiles_counts_as_many_as_there_are():
    """Tiles count also if their order and number are known only at run time."""

    def read(cache, query, order, tiles):
        def body(carry):
            index, total = carry
            tile = jax.lax.dynamic_slice_in_dim(cache, order[index] * 8, 8)
            return index + 1, total + jnp.sum(tile @ query)

        return jax.lax.while_loop(lambda c: c[0] < tiles, body, (0, 0.0))[1]

    arrays = (
        jax.ShapeDtypeStruct((64, 4), jnp.float32),
        jax.ShapeDtypeStruct((4,), jnp.float32),
        jax.ShapeDtypeStruct((8,), jnp.int32),
        jax.ShapeDtypeStruct((), jnp.int32),
    )
    assert 2 * 64 * 4 <= count_flops(read, *arrays) <= 2 * 64 * 4 + 3 * 64
