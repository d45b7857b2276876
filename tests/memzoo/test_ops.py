"""Operations on a user's arrays, under jit, vmap and grad."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import memzoo
from memzoo.errors import InputError
from memzoo.models.ops import recurrence
from memzoo.models.ops.attention import _check
from memzoo.models.ops.delta_rule import DELTA_RULE

B, T, H, K, V = 2, 5, 3, 4, 2


@pytest.fixture(scope="module")
def arrays():
    random = np.random.default_rng(0)
    q, k = random.normal(size=(2, B, T, H, K)).astype(np.float32)
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    v = random.normal(size=(B, T, H, V)).astype(np.float32)
    strength = random.uniform(size=(B, T, H)).astype(np.float32)
    decay = -random.uniform(size=(B, T, H, K)).astype(np.float32)
    return q, k, v, strength, decay


def loop(q, k, v, strength, decay):
    """S = diag(a) S + b k (v - (diag(a) S)^T k)^T and o = S^T q, one head."""
    memory, outputs = np.zeros((K, V)), []
    for t in range(T):
        memory = np.exp(decay[t])[:, None] * memory
        memory = memory + strength[t] * np.outer(k[t], v[t] - memory.T @ k[t])
        outputs.append(memory.T @ q[t])
    return np.stack(outputs), memory


def test_both_delta_rules_are_the_loop(arrays):
    q, k, v, strength, decay = arrays
    same = np.repeat(decay[..., :1], K, axis=-1)
    erased = strength[..., None] * k
    found = {
        "one decay": memzoo.ops.gated_delta_rule(
            q, k, v, write_strength=strength, log_decay=decay[..., 0]
        ),
        "by channel": memzoo.ops.erase_write_rule(
            q, k, strength[..., None] * v, erase=erased, log_decay=decay
        ),
    }
    for name, decays in (("one decay", same), ("by channel", decay)):
        o, memory = found[name]
        for row, head in np.ndindex(B, H):
            parts = (x[row, :, head] for x in (q, k, v, strength, decays))
            wanted, last = loop(*parts)
            np.testing.assert_allclose(o[row, :, head], wanted, atol=1e-5)
            np.testing.assert_allclose(memory[row, head], last, atol=1e-5)


def test_sums_without_decay_are_cumulative(arrays):
    q, k, v, _, _ = arrays
    products = np.cumsum(np.einsum("bthk,bthv->bthkv", k, v), axis=1)
    wanted = np.einsum("bthk,bthkv->bthv", q, products)
    for operation in (memzoo.ops.linear_attention, memzoo.ops.gated_linear_attention):
        o, memory = operation(q, k, v)
        np.testing.assert_allclose(o, wanted, atol=1e-5)
        np.testing.assert_allclose(memory, products[:, -1], atol=1e-5)


def test_an_operation_can_be_transformed(arrays):
    q, k, v, strength, decay = map(jnp.asarray, arrays)

    def loss(v, q, k, strength, decay):
        o, _ = memzoo.ops.gated_delta_rule(
            q[None], k[None], v[None], write_strength=strength[None], log_decay=decay
        )
        return jnp.sum(o**2)

    decays = decay[:, None, :, :, 0]
    each = jax.jit(jax.vmap(jax.grad(loss)))(v, q, k, strength, decays)

    def whole(v):
        o, _ = memzoo.ops.gated_delta_rule(
            q, k, v, write_strength=strength, log_decay=decay[..., 0]
        )
        return jnp.sum(o**2)

    np.testing.assert_allclose(each, jax.grad(whole)(v), atol=1e-4)


def test_a_wrong_order_of_axes_is_refused(arrays):
    q, k, v, strength, _ = arrays
    q, k, v = (np.swapaxes(x, 1, 2) for x in (q, k, v))
    with pytest.raises(memzoo.InputError, match=f"axis t is {T} in write_strength"):
        memzoo.ops.gated_delta_rule(q, k, v, write_strength=strength)


@pytest.mark.parametrize("shape", [(B, T - 1), (B, T + 1), (T, B)])
def test_document_starts_of_another_shape_are_refused(arrays, shape):
    q, k, v, strength, _ = arrays
    with pytest.raises(InputError, match=r"reset has shape .*; give it the axes `b t`"):
        # As without the type checks of the tests.
        inspect.unwrap(memzoo.ops.gated_delta_rule)(
            q, k, v, write_strength=strength, reset=jnp.zeros(shape, bool)
        )


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("chunk_gla", "it is called gated_linear_attention here"),
        ("gated_delta_rules", "did you mean gated_delta_rule?"),
        ("zzz", "there are attention, "),
    ],
)
def test_unknown_operations_name_the_one_to_use(name, line):
    with pytest.raises(AttributeError, match=line):
        getattr(memzoo.ops, name)


@pytest.mark.parametrize(
    ("operation", "name", "line"),
    [
        ("gated_delta_rule", "beta", "it is called write_strength here"),
        ("gated_delta_rule", "g", "it is called log_decay here"),
        ("gated_delta_rule", "q", "it is called query here"),
        ("gated_delta_rule", "log_decays", "did you mean log_decay?"),
        ("gated_linear_attention", "gk", "it is called log_decay here"),
        ("linear_attention", "initial_state", "it is called memory here"),
        ("linear_attention", "scale", "multiply the queries by it"),
        ("attention", "key", "it is called k here"),
        ("attention", "is_causal", "it is always causal"),
        ("attention", "zzz", "its arguments are q, k, v, scale"),
    ],
)
def test_unknown_arguments_name_the_one_to_use(arrays, operation, name, line):
    q, k, v, _, _ = arrays
    with pytest.raises(InputError, match=rf"^{operation} has no argument '{name}'; "):
        getattr(memzoo.ops, operation)(q, k, v, **{name: q})
    with pytest.raises(InputError, match=line):
        getattr(memzoo.ops, operation)(q, k, v, **{name: q})


def test_arrays_of_other_types_are_refused(arrays):
    q, k, v, strength, _ = arrays
    delta, attention = (
        inspect.unwrap(each)
        for each in (memzoo.ops.gated_delta_rule, memzoo.ops.attention)
    )
    with pytest.raises(InputError, match="query is a list; give an array"):
        delta(q.tolist(), k, v, write_strength=strength)
    with pytest.raises(InputError, match="write_strength is int32; give floats"):
        delta(q, k, v, write_strength=strength.astype(np.int32))
    with pytest.raises(InputError, match="memory is a float; give an array"):
        delta(q, k, v, write_strength=strength, memory=0.5)
    size = inspect.unwrap(recurrence.Recurrence.resolve_chunk_size)
    with pytest.raises(InputError, match="chunk_size is '3'; give a whole number"):
        size(DELTA_RULE, "3", T)
    with pytest.raises(InputError, match="reset is float32; give a mask of bool"):
        recurrence._check_reset(strength[..., 0], (q,))
    with pytest.raises(InputError, match="window is '3'; give a whole number, or None"):
        inspect.unwrap(_check)(q, k, "3", None, None, None)
    with pytest.raises(InputError, match="query_position is a list; give an array"):
        attention(q, k, v, query_position=[[0]], key_position=[[0]])
    with pytest.raises(InputError, match="v is a list; give an array"):
        attention(q, k, v.tolist())
    wide = memzoo.ops.linear_attention(*(x.astype(np.float64) for x in (q, k, v)))
    same = memzoo.ops.linear_attention(q, k, v)
    jax.tree.map(np.testing.assert_array_equal, wide, same)


def test_a_memory_that_would_grow_is_refused(arrays):
    q, k, v, _, decay = arrays
    with pytest.raises(InputError, match=r"log_decay is up to .*, so the memory would"):
        memzoo.ops.gated_linear_attention(q, k, v, log_decay=-decay)
    jax.eval_shape(memzoo.ops.gated_linear_attention, q, k, v, log_decay=-decay)


def test_attention_refuses_other_axes(arrays):
    q, k, v, _, _ = arrays
    attention = inspect.unwrap(memzoo.ops.attention)
    swapped = [np.swapaxes(x, 1, 2) for x in (q, k, v)]
    for given, line in (
        ((q[0], k, v), r"q has shape .*; give it the axes `b t h k`"),
        ((q, k, swapped[2]), "axis s is 3 in v .* and 5 in k; .*check their order"),
        (
            (q, swapped[1], swapped[2]),
            "3 heads are not a multiple of 5 key groups; .* c",
        ),
        ((q, k[:, :4], v[:, :4]), "5 queries and 4 keys .*, or check the order of axe"),
    ):
        with pytest.raises(InputError, match=line):
            attention(*given)
    with pytest.raises(InputError, match="axis t is 4 in query_position"):
        attention(q, k, v, query_position=np.zeros((B, 4), int), key_position=None)
