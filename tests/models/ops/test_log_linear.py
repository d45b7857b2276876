"""Log-linear attention against matrices of levels, and its forms against each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.delta_rule import DELTA_RULE, DeltaTokens
from memzoo.models.ops.log_linear import (
    LogLinearTokens,
    bit_length,
    log_linear,
    num_buckets,
)
from memzoo.models.ops.scalar_decay import SCALAR_DECAY, ScalarDecayTokens

TIME, LEVELS = 21, 5
RULES = {
    "scalar_decay": (SCALAR_DECAY, ScalarDecayTokens),
    "delta_rule": (DELTA_RULE, DeltaTokens),
}


def _counts(start, reset):
    """Return the tokens of each document up to and with each token."""
    counts = np.zeros(reset.shape, np.int32)
    for row in range(len(reset)):
        count = start
        for t in range(reset.shape[1]):
            count = 1 if reset[row, t] else count + 1
            counts[row, t] = count
    return counts


@pytest.fixture
def make(make_tokens, make_reset):
    def make(name, *, start=0, kind="inside", decay="mild", levels=LEVELS):
        rule, tokens = RULES[name]
        base, _ = make_tokens(tokens, (6, 5), TIME, decay=decay)
        rng = np.random.default_rng(5)
        reset = np.asarray(make_reset(kind, TIME))
        weight = jnp.asarray(rng.uniform(0.2, 2, (*base.query.shape[:3], levels)))
        # Only the buckets of the digits of `start` hold tokens.
        memory = rng.standard_normal((2, 2, 6, 6, 5))
        full = np.array([start >> j & 1 for j in range(6)])
        memory = tuple(jnp.moveaxis(jnp.asarray(memory * full[:, None, None]), 2, 0))
        count = jnp.asarray(_counts(start, reset))
        return log_linear(rule, 6), (count, weight, base), memory, jnp.asarray(reset)

    return make


def _levels(position):
    """Return the level of every pair, by walking up the tree from each token."""
    levels = np.zeros((position, position), int)
    for t in range(position):
        end, level = t, 1
        while end > 0:
            size = 1
            while end % (2 * size) == 0:
                size *= 2
            level = size.bit_length()
            levels[t, end - size : end] = level
            end -= size
    return levels


def test_levels_are_those_of_a_fenwick_tree():
    place = np.arange(70)
    found = np.asarray(bit_length(jnp.asarray(place[:, None] ^ place[None, :])))
    lower = np.tri(70, dtype=bool)
    np.testing.assert_array_equal(found[lower], _levels(70)[lower])
    assert [num_buckets(n) for n in (0, 1, 2, 3, 4, 5, 8, 9)] == [
        0,
        1,
        2,
        3,
        3,
        4,
        4,
        5,
    ]


@pytest.mark.parametrize("name", RULES)
def test_the_reference_is_the_matrix_with_weighted_levels(x64, make, name):
    """Multiply the rule's matrix by the weight of each pair's level, head by head."""
    rule, (count, weight, base), memory, _ = make(name, kind="never")
    found, _ = rule.recurrent(LogLinearTokens(count, weight, base), memory)
    levels = np.minimum(_levels(TIME), LEVELS - 1)
    for row, head in np.ndindex(2, 2):
        at = (row, slice(None), head)
        q, k, v = (np.asarray(x[at]) for x in base[:3])
        maps = []
        decay = np.exp(np.asarray(base.log_decay[at]))
        for t in range(TIME):
            strength = 0.0
            if name == "delta_rule":
                strength = base.write_strength[at][t]
            maps.append(decay[t] * (np.eye(6) - strength * np.outer(k[t], k[t])))
        for t in range(TIME):
            wanted, row_of_t = np.zeros(5), q[t]
            for s in range(t, -1, -1):
                written = base.write_strength[at][s] if name == "delta_rule" else 1.0
                share = written * row_of_t @ k[s]
                wanted += weight[at][t, levels[t, s]] * share * v[s]
                row_of_t = row_of_t @ maps[s]
            np.testing.assert_allclose(found[at][t], wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("name", "start", "kind", "decay", "levels", "size"),
    [
        ("scalar_decay", 13, "inside", "mixed", 5, 8),
        ("delta_rule", 27, "start", "mixed", 3, 8),
        pytest.param("delta_rule", 13, "inside", "mixed", 5, 4, marks=pytest.mark.slow),
        pytest.param("delta_rule", 27, "never", "mild", 3, 4, marks=pytest.mark.slow),
        pytest.param("scalar_decay", 16, "end", "none", 7, 8, marks=pytest.mark.slow),
        pytest.param("delta_rule", 5, "edge", "none", 7, 8, marks=pytest.mark.slow),
    ],
)
def test_the_chunk_form_equals_the_reference(
    x64, make, name, start, kind, decay, levels, size
):
    """Documents begin anywhere; the carried one continues at any position."""
    rule, (count, weight, base), memory, reset = make(
        name, start=start, kind=kind, decay=decay, levels=levels
    )
    full = [start >> bucket & 1 for bucket in range(6)]

    def run(form, weight, base, memory):
        tokens = LogLinearTokens(count, weight, base)
        held = tuple(jnp.where(f, m, 0) for f, m in zip(full, memory, strict=True))
        found = form(tokens, held, reset=reset)
        return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(found)), found

    forms = (rule.recurrent, functools.partial(rule.chunkwise, chunk_size=size))
    wanted, found = (
        jax.jit(jax.grad(functools.partial(run, form), (0, 1, 2), has_aux=True))(
            weight, base, memory
        )
        for form in forms
    )
    near = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-11)
    jax.tree.map(near, found, wanted)


@pytest.mark.parametrize("name", RULES)
def test_equal_weights_are_the_rule(x64, make, name):
    rule, (count, weight, base), memory, reset = make(name)
    ones = jnp.ones_like(weight)
    found, after = rule.chunkwise(
        LogLinearTokens(count, ones, base), memory, reset=reset, chunk_size=8
    )
    wanted, last = RULES[name][0].recurrent(base, memory[0], reset=reset)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(sum(after), last, rtol=1e-9, atol=1e-11)


def test_padding_changes_no_bucket(x64, make):
    rule, (count, weight, base), memory, reset = make("delta_rule", start=11)
    nothing = jnp.zeros(reset.shape, bool)
    tokens = jax.tree.map(
        lambda x: jnp.full_like(x, jnp.nan) if x.dtype == float else x,
        LogLinearTokens(count, weight, base),
    )
    _, after = rule.chunkwise(tokens, memory, valid=nothing, chunk_size=8)
    jax.tree.map(np.testing.assert_array_equal, after, memory)
