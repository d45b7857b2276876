"""Least squares over decayed tokens against solves in numpy, and its laws.

The reference is the token-by-token form with a Cholesky factor of every system, which
`jax.grad` differentiates. It is compared with weighted ridge regression in numpy.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.errors import InputError
from memzoo.models.ops.mesa import MesaMemory, MesaTokens, mesa
from memzoo.models.ops.scalar_decay import SCALAR_DECAY

BATCH, HEADS, KEY, VALUE, TIME = 2, 2, 4, 3, 13


def _tokens(seed=0, time=TIME, decay="mixed", ridge=0.3):
    rng = np.random.default_rng(seed)
    shape = (BATCH, time, HEADS)
    key = rng.standard_normal((*shape, KEY)) + 1.0
    noise = rng.uniform(size=shape)
    strong = -1e5 if decay == "hostile" else -20.0
    return MesaTokens(
        query=rng.standard_normal((*shape, KEY)),
        key=key / np.linalg.norm(key, axis=-1, keepdims=True),
        value=rng.standard_normal((*shape, VALUE)),
        ridge=ridge * (1 + rng.uniform(size=(*shape, KEY))),
        write_strength=rng.uniform(0.2, 1.0, size=shape),
        log_decay=None if decay == "none" else np.where(noise < 0.2, strong, -noise),
        mix=rng.uniform(size=shape),
    )


def _memory(seed=1, several=()):
    rng = np.random.default_rng(seed)
    keys = rng.standard_normal((BATCH, *several, HEADS, 6, KEY))
    values = rng.standard_normal((BATCH, *several, HEADS, 6, VALUE))
    sums = np.swapaxes(keys, -1, -2)
    return MesaMemory(sums @ keys, sums @ values)


def _reset(time=TIME):
    reset = np.zeros((BATCH, time), bool)
    reset[0, [2, 5, 6]] = reset[1, [0, 9]] = True
    return reset


def _regression(tokens, row, head, relative):
    """Fit the values to the keys of every prefix, with weights and a ridge."""
    q, k, v, ridge, b, log_decay, mix = (x[row, :, head] for x in tokens)
    outputs = []
    for t in range(len(q)):
        decay = [np.exp(np.sum(log_decay[j + 1 : t + 1])) for j in range(t + 1)]
        weight = b[: t + 1] * decay
        system = (k[: t + 1] * weight[:, None]).T @ k[: t + 1]
        right = (k[: t + 1] * weight[:, None]).T @ v[: t + 1]
        whole = ridge[t] + relative * np.sqrt(np.sum(system**2))
        x = np.linalg.solve(system + np.diag(whole), q[t])
        outputs.append((q[t] + mix[t] * (x - q[t])) @ right)
    return np.stack(outputs)


def test_every_read_is_a_ridge_regression(x64):
    tokens = _tokens()
    rule = mesa(solver="exact", relative_ridge=0.02)
    o, _ = jax.jit(rule.recurrent)(jax.tree.map(jnp.asarray, tokens))
    for row, head in ((0, 0), (1, 1)):
        wanted = _regression(tokens, row, head, relative=0.02)
        np.testing.assert_allclose(o[row, :, head], wanted, rtol=1e-9)


@partial(jax.jit, static_argnums=0)
def _pulled(run, tokens, memory, reset):
    """Return values, and the cotangents of a weighted sum of them.

    H is made symmetric first: its gradient is compared within symmetric matrices.
    """

    def symmetric(tokens, memory):
        matrix = (memory.key_key + jnp.swapaxes(memory.key_key, -1, -2)) / 2
        return run(tokens, memory._replace(key_key=matrix), reset=reset)

    values, pull = jax.vjp(symmetric, tokens, memory)
    rng = np.random.default_rng(1)
    given = jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape)), values)
    return values, pull(given)


def _close(found, wanted, bound=1e-8):
    pairs = zip(jax.tree.leaves_with_path(wanted), jax.tree.leaves(found), strict=True)
    for (path, want), got in pairs:
        scale = max(np.max(np.abs(want), initial=0.0), 1e-3)
        np.testing.assert_allclose(
            got, want, rtol=0, atol=bound * scale, err_msg=jax.tree_util.keystr(path)
        )


@pytest.fixture(scope="module")
def exact():
    """Values and gradients of the token-by-token form with a Cholesky factor."""
    run = mesa(solver="exact", relative_ridge=0.02).recurrent

    def reference(tokens):
        return _pulled(run, tokens, _memory(), _reset())

    return reference


def _fast(solver, form):
    rule = mesa(solver=solver, relative_ridge=0.02)
    return partial(rule.chunkwise, chunk_size=5, form=form)


FAST = {
    "scan": _fast("conjugate_gradients", "scan"),
    "parallel": _fast("conjugate_gradients", "parallel"),
    "exact": _fast("exact", "scan"),
}


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("decay", ["mixed", "hostile"])
def test_chunks_equal_the_exact_solution_with_gradients(x64, exact, name, decay):
    tokens = _tokens(decay=decay)
    found = _pulled(FAST[name], tokens, _memory(), _reset())
    _close(found, exact(tokens))


def test_without_gates_and_documents(x64):
    """Neither decay, nor mix, nor relative ridge, nor document starts are given."""
    tokens = _tokens(decay="none")._replace(mix=None)
    rule = mesa()
    found = _pulled(
        partial(rule.chunkwise, chunk_size=5, form="scan"), tokens, _memory(), None
    )
    wanted = _pulled(mesa(solver="exact").recurrent, tokens, _memory(), None)
    _close(found, wanted)


@pytest.mark.parametrize("form", ["scan", "parallel"])
def test_each_chunk_has_the_memory_that_it_names(x64, form):
    which = np.array([[0, 2, 2], [1, 0, 1]])
    tokens, memories, rule = _tokens(time=12), _memory(several=(3,)), mesa()
    run = jax.jit(partial(rule.chunkwise, chunk_size=4, form=form))
    o, after = run(tokens, memories, which=which)
    one = jax.jit(partial(rule.chunkwise, chunk_size=4))
    for row in range(BATCH):
        held = [_at(memories, (row, m)) for m in range(3)]
        for chunk, name in enumerate(which[row]):
            span = slice(4 * chunk, 4 * chunk + 4)
            part = _at(tokens, ([row], span))
            read, new = one(part, _at(held[name], (None,)))
            np.testing.assert_allclose(o[row, span], read[0], rtol=1e-9)
            held[name] = _at(new, (0,))
        wanted = jax.tree.map(lambda *a: np.stack(a), *held)
        _close(_at(after, (row,)), wanted)


def _at(tree, index):
    return jax.tree.map(lambda a: a[index], tree)


@pytest.mark.parametrize("form", ["scan", "parallel"])
def test_no_bit_depends_on_a_later_or_a_padded_token(form, jit_as_users):
    tokens, memory = jax.tree.map(np.float32, (_tokens(), _memory()))
    other = jax.tree.map(np.float32, _tokens(seed=5))
    run = jit_as_users(partial(mesa().chunkwise, chunk_size=5, form=form))
    valid = np.ones((BATCH, TIME), bool)
    o, _ = run(tokens, memory, valid=valid)
    for place in (1, 7, 12):
        changed = jax.tree.map(
            lambda a, b, t=place: np.concatenate([a[:, :t], b[:, t:]], 1), tokens, other
        )
        found, after = run(changed, memory, valid=valid)
        np.testing.assert_array_equal(found[:, :place], o[:, :place])
        assert np.all(np.any(np.asarray(found != o)[:, place:], axis=(2, 3)))
    hostile = jax.tree.map(np.copy, tokens)
    real = np.arange(TIME)[None] < np.array([[5], [10]])
    for x in hostile:
        x[~real] = np.nan
    found, after = run(hostile, memory, valid=real)
    assert np.all(np.isfinite(np.asarray(found)[real]))
    _, same = run(tokens, memory, valid=real)
    jax.tree.map(np.testing.assert_array_equal, after, same)
    _, still = run(hostile, memory, valid=np.zeros_like(real))
    jax.tree.map(np.testing.assert_array_equal, still, memory)


def test_bfloat16_stays_close_to_float64():
    tokens, memory = _tokens(), _memory()
    narrow = jax.tree.map(partial(jnp.asarray, dtype=jnp.bfloat16), tokens)
    run = jax.jit(partial(mesa().chunkwise, chunk_size=5))
    o, after = run(narrow, jax.tree.map(jnp.float32, memory))
    assert o.dtype == jnp.bfloat16 and after.key_key.dtype == jnp.float32
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: np.asarray(x, np.float64), narrow)
        exact = jax.jit(mesa(solver="exact").recurrent)(wide, memory)
    for found, wanted in zip((o, *after), (exact[0], *exact[1]), strict=True):
        error = np.asarray(found, np.float64) - np.asarray(wanted)
        assert np.sqrt(np.mean(error**2) / np.mean(np.asarray(wanted) ** 2)) < 5e-3


def test_a_large_ridge_tends_to_linear_attention(x64):
    tokens = _tokens(ridge=0.0)._replace(mix=None)
    values = tokens.value * tokens.write_strength[..., None]
    linear, _ = SCALAR_DECAY((tokens.query, tokens.key, values, tokens.log_decay))
    errors = []
    for ridge in (1e2, 1e4):
        large = tokens._replace(ridge=np.full_like(tokens.ridge, ridge))
        o, _ = mesa()(large, chunk_size=5)
        errors.append(np.max(np.abs(ridge * o - linear)) / np.max(np.abs(linear)))
    assert errors[0] < 0.1 and errors[1] < errors[0] / 50


@pytest.mark.parametrize("solver", ["exact", "conjugate_gradients"])
def test_pairs_fewer_than_the_key_size_are_recalled(x64, solver):
    """Linear attention mixes the values of correlated keys."""
    rng = np.random.default_rng(0)
    pairs, size = 6, 8
    keys = 1 + 0.5 * rng.standard_normal((1, pairs, 1, size))
    keys /= np.linalg.norm(keys, axis=-1, keepdims=True)
    values = rng.standard_normal((1, pairs, 1, VALUE))
    doubled = (np.concatenate([x, x], axis=1) for x in (keys, keys, values))
    written = np.repeat([1.0, 0.0], pairs)[None, :, None]
    # The first tokens write the pairs, the last only read at the same keys.
    tokens = MesaTokens(*doubled, np.full((1, 2 * pairs, 1, size), 1e-9), written)
    o, _ = mesa(solver=solver)(tokens)
    np.testing.assert_allclose(o[:, pairs:], values, atol=1e-5)
    linear, _ = SCALAR_DECAY(
        (tokens.query, tokens.key, tokens.value * written[..., None])
    )
    assert np.mean(np.abs(linear[:, pairs:] - values)) > 0.3


def test_wrong_axes_are_named():
    tokens = _tokens()
    with pytest.raises(InputError, match="axis k is 3 in key"):
        mesa()(tokens._replace(key=tokens.key[..., :3]))
