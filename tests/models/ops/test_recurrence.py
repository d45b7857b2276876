"""Laws of every recurrence: the chunkwise form equals the token-by-token form.

Add a new operation as a row of RECURRENCES, and test its `step` in a separate file.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.delta_rule import DELTA_RULE
from memzoo.models.ops.erase_write import ERASE_WRITE
from memzoo.models.ops.feature_maps import taylor_size
from memzoo.models.ops.low_rank import LOW_RANK
from memzoo.models.ops.recurrence import Recurrence
from memzoo.models.ops.scalar_decay import SCALAR_DECAY
from memzoo.models.ops.taylor_attention import TAYLOR_ATTENTION
from memzoo.models.ops.vector_decay import VECTOR_DECAY

BATCH, HEADS, KEY, VALUE = 2, 2, 6, 5


class Row(NamedTuple):
    """An operation, its memory's sizes, and the axes of log decays after the heads."""

    rule: Recurrence
    memory: tuple[int, ...] = (KEY, VALUE)
    channels: tuple[int, ...] = ()


RECURRENCES = {
    "delta_rule": Row(DELTA_RULE),
    "erase_write": Row(ERASE_WRITE, channels=(KEY,)),
    "erase_write_by_head": Row(ERASE_WRITE, channels=(1,)),
    "low_rank": Row(LOW_RANK, channels=(KEY,)),
    "scalar_decay": Row(SCALAR_DECAY),
    "taylor_attention": Row(TAYLOR_ATTENTION, (taylor_size(KEY), VALUE)),
    "vector_decay": Row(VECTOR_DECAY, channels=(KEY,)),
}
FORMS = ("scan", "parallel")
every_recurrence = pytest.mark.parametrize("name", RECURRENCES)
every_form = pytest.mark.parametrize("form", FORMS)
slow = partial(pytest.param, marks=pytest.mark.slow)


@pytest.fixture
def make(make_tokens):
    """Tokens and a memory of an operation by name, in float64."""

    def make(name, time, **kinds):
        row = RECURRENCES[name]
        return make_tokens(
            row.rule.tokens, row.memory, time, channels=row.channels, **kinds
        )

    return make


@partial(jax.jit, static_argnums=0)
def _pulled(run, tokens, memory, reset):
    """Return values, and the cotangents of a weighted sum of them."""
    values, pull = jax.vjp(partial(run, reset=reset), tokens, memory)
    rng = np.random.default_rng(1)
    given = (jnp.asarray(rng.standard_normal(x.shape), x.dtype) for x in values)
    return values, pull(tuple(given))


class Reference(NamedTuple):
    """The token-by-token form, hashable so that equal runs share a program."""

    name: str

    def __call__(self, tokens, memory, reset=None):
        rule = RECURRENCES[self.name].rule
        return rule.recurrent(tokens, memory, reset=reset)


class Fast(NamedTuple):
    """The chunkwise form with its options."""

    name: str
    form: str = "auto"
    chunk_size: int | None = 16

    def __call__(self, tokens, memory, reset=None):
        return RECURRENCES[self.name].rule.chunkwise(
            tokens, memory, reset=reset, form=self.form, chunk_size=self.chunk_size
        )


def assert_same(fast, tokens, memory, reset=None, bound=1e-9):
    expected = _pulled(Reference(fast.name), tokens, memory, reset)
    found = _pulled(fast, tokens, memory, reset)
    pairs = zip(
        jax.tree.leaves_with_path(expected), jax.tree.leaves(found), strict=True
    )
    for (path, wanted), got in pairs:
        size = max(np.max(np.abs(wanted), initial=0.0), 1e-3)
        np.testing.assert_allclose(
            got,
            wanted,
            rtol=bound,
            atol=bound * size,
            err_msg=jax.tree_util.keystr(path),
        )


@every_recurrence
@pytest.mark.parametrize(
    ("time", "form"),
    [(1, "scan"), slow(15, "scan"), slow(16, "scan"), (17, "scan"), (17, "parallel")],
)
def test_awkward_lengths(x64, name, time, form, make, make_reset):
    tokens, memory = make(name, time)
    assert_same(Fast(name, form), tokens, memory, make_reset("inside", time))


@every_recurrence
@pytest.mark.parametrize(
    ("chunk_size", "form"),
    [
        slow(1, "scan"),
        (7, "scan"),
        slow(64, "scan"),
        (None, "auto"),
        slow(64, "parallel"),
    ],
)
def test_the_chunk_size_changes_nothing(x64, name, chunk_size, form, make, make_reset):
    tokens, memory = make(name, 37)
    fast = Fast(name, form, chunk_size)
    assert_same(fast, tokens, memory, make_reset("inside", 37))


@every_recurrence
@every_form
@pytest.mark.parametrize("decay", ["mild", "strong", "mixed", "zero", "none"])
@pytest.mark.parametrize("keys", ["independent", "correlated", "repeated"])
@pytest.mark.parametrize("strength", [1.0, 2.0])
def test_hard_inputs(x64, name, strength, keys, decay, form, make):
    fields = RECURRENCES[name].rule.tokens._fields
    decay = decay if "log_decay" in fields else "none"
    strength = strength if "write_strength" in fields else 1.0
    tokens, memory = make(name, 37, keys=keys, decay=decay, strength=strength)
    assert_same(Fast(name, form), tokens, memory)


@every_recurrence
@every_form
@pytest.mark.parametrize("decay", ["mild", "none"])
@pytest.mark.parametrize(
    "kind", ["never", "start", "end", "edge", "inside", "consecutive", "everywhere"]
)
def test_documents_may_start_anywhere(x64, name, kind, decay, form, make, make_reset):
    tokens, memory = make(name, 37, decay=decay)
    assert_same(Fast(name, form), tokens, memory, make_reset(kind, 37))


@every_recurrence
@every_form
def test_packed_documents_equal_separate_runs(x64, name, form, make):
    tokens, memory = make(name, 37)
    run = jax.jit(Fast(name, form).__call__)
    start = np.arange(37)[None, :] == np.full((BATCH, 1), 21)
    packed, last = run(tokens, memory, start)
    first, second = (
        jax.tree.map(lambda x, part=part: np.asarray(x)[:, part], tokens)
        for part in (np.s_[:21], np.s_[21:])
    )
    o, _ = run(first, memory)
    np.testing.assert_allclose(packed[:, :21], o, rtol=1e-9, atol=1e-12)
    o, alone = run(second, jnp.zeros_like(memory))
    np.testing.assert_allclose(packed[:, 21:], o, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(last, alone, rtol=1e-9, atol=1e-12)


@every_recurrence
def test_tokens_and_writes_alone_equal_the_sequence(x64, name, make):
    rule = RECURRENCES[name].rule
    tokens, memory = make(name, 3)
    o, last = rule.chunkwise(tokens, memory)
    held = memory
    for t in range(3):
        token = jax.tree.map(lambda x, t=t: x[:, t : t + 1], tokens)
        read, held = rule.token(token, held)
        np.testing.assert_allclose(read, o[:, t : t + 1], rtol=1e-10)
    for found in (held, rule.write(tokens, memory)):
        np.testing.assert_allclose(found, last, rtol=1e-10)


def _narrow(tree, dtype=jnp.float32):
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), tree)


@every_recurrence
@every_form
def test_tokens_that_are_not_real_leave_the_memory_bit_for_bit(
    name, form, jit_as_users, make
):
    tokens, memory = _narrow(make(name, 32))
    rule = RECURRENCES[name].rule
    run = jit_as_users(partial(rule.chunkwise, chunk_size=16, form=form))
    _, after = run(tokens, memory, valid=jnp.zeros((BATCH, 32), bool))
    np.testing.assert_array_equal(after, memory)
    half = jnp.broadcast_to(jnp.arange(32)[None] < 16, (BATCH, 32))
    _, after = run(tokens, memory, valid=half)
    first = jax.tree.map(lambda x: x[:, :16], tokens)
    np.testing.assert_array_equal(after, run(first, memory)[1])
    hostile = jax.tree.map(
        lambda x: jnp.where(half.reshape(*half.shape, *(1,) * (x.ndim - 2)), x, np.nan),
        tokens,
    )
    np.testing.assert_array_equal(run(hostile, memory, valid=half)[1], after)


@every_recurrence
@every_form
def test_no_bit_of_an_output_depends_on_a_later_input(
    name, form, jit_as_users, make, make_reset
):
    tokens, memory = _narrow(make(name, 37))
    other, _ = _narrow(make(name, 37, decay="strong", seed=5))
    reset = np.asarray(make_reset("inside", 37))
    run = jit_as_users(Fast(name, form).__call__)
    o, _ = run(tokens, memory, reset)
    index = np.arange(37)
    for place in (1, 13, 20, 36):
        changed = jax.tree.map(
            lambda a, b, place=place: jnp.concatenate([a[:, :place], b[:, place:]], 1),
            tokens,
            other,
        )
        found, _ = run(changed, memory, np.where(index < place, reset, ~reset))
        np.testing.assert_array_equal(found[:, :place], o[:, :place])
        assert np.any(np.asarray(found != o)[:, place:])


@every_recurrence
@every_form
def test_bfloat16_stays_close_to_float64(name, form, make):
    rule = RECURRENCES[name].rule
    tokens, memory = make(name, 64)
    gates = {
        n: _narrow(getattr(tokens, n))
        for n in ("log_decay", "write_strength")
        if n in tokens._fields
    }
    narrow = _narrow(tokens, jnp.bfloat16)._replace(**gates)
    memory = jnp.zeros(memory.shape, jnp.float32)
    run = partial(rule.chunkwise, chunk_size=16, form=form)
    o, last = jax.jit(run)(narrow, memory)
    assert o.dtype == jnp.bfloat16 and last.dtype == jnp.float32

    def total(tokens, memory):
        o, memory = run(tokens, memory)
        return jnp.sum(o.astype(jnp.float32)) + jnp.sum(memory)

    gradient = jax.jit(jax.grad(total, (0, 1)))(narrow, memory)
    pairs = zip(
        jax.tree.leaves(gradient), jax.tree.leaves((narrow, memory)), strict=True
    )
    for found, given in pairs:
        assert found.dtype == given.dtype
        assert jnp.all(jnp.isfinite(found)) and jnp.any(found != 0)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(np.asarray(x, np.float64)), narrow)
        exact = rule.recurrent(wide, jnp.zeros(memory.shape, jnp.float64))
    for found, wanted in zip((o, last), exact, strict=True):
        error = np.asarray(found, np.float64) - np.asarray(wanted)
        assert np.sqrt(np.mean(error**2) / np.mean(np.asarray(wanted) ** 2)) < 5e-3


@every_recurrence
@every_form
def test_an_empty_sequence_returns_the_memory(name, form, make):
    tokens, memory = _narrow(make(name, 0))
    o, after = Fast(name, form)(tokens, memory)
    assert o.shape == (BATCH, 0, HEADS, VALUE)
    np.testing.assert_array_equal(after, memory)


WHICH = np.array([[0, 2, 2, 0, 3], [3, 3, 3, 3, 3]])


def _one_at_a_time(name, tokens, memories, reset):
    """Run every chunk by the reference, with the memory of its index."""
    rule, outputs, after = RECURRENCES[name].rule, [], []
    for row, names in enumerate(WHICH):
        held, read = list(memories[row]), []
        for chunk, number in enumerate(names):
            at = (slice(row, row + 1), slice(4 * chunk, 4 * chunk + 4))
            part = jax.tree.map(lambda x, at=at: x[at], tokens)
            start = None if reset is None else reset[at]
            o, new = rule.recurrent(part, held[number][None], reset=start)
            held[number] = new[0]
            read.append(o[0])
        outputs.append(jnp.concatenate(read))
        after.append(jnp.stack(held))
    return jnp.stack(outputs), jnp.stack(after)


@every_recurrence
@every_form
@pytest.mark.parametrize(
    ("decay", "resets"),
    [
        ("mild", "inside"),
        *(slow(*pair) for pair in (("none", "none"), ("mild", "none"))),
    ],
)
def test_each_chunk_has_the_memory_that_it_names(
    x64, name, form, decay, resets, make, make_reset
):
    tokens, one = make(name, 18, decay=decay)
    rng = np.random.default_rng(3)
    memories = jnp.asarray(rng.standard_normal((BATCH, 4, *one.shape[1:])))
    reset = make_reset(resets, 18)
    which, rule = jnp.asarray(WHICH), RECURRENCES[name].rule

    def fast(tokens, memories):
        return rule.chunkwise(
            tokens, memories, which=which, chunk_size=4, form=form, reset=reset
        )

    def value_and_gradient(run):
        def total(tokens, memories):
            o, after = run(tokens, memories)
            return jnp.sum(jnp.sin(o)) + jnp.sum(jnp.sin(after)), (o, after)

        return jax.jit(jax.grad(total, (0, 1), has_aux=True))(tokens, memories)

    found = value_and_gradient(fast)
    wanted = value_and_gradient(partial(_one_at_a_time, name, reset=reset))
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), found, wanted
    )
    _, after = found[1]
    np.testing.assert_array_equal(after[:, 1], memories[:, 1])
    np.testing.assert_array_equal(after[1, :3], memories[1, :3])


def test_the_chunk_size_is_at_most_the_length():
    assert DELTA_RULE.resolve_chunk_size(64, 5) == 5
    assert DELTA_RULE.resolve_chunk_size(4, 5) == 4
    assert DELTA_RULE.resolve_chunk_size(None, 10**6) >= 16
    with pytest.raises(ValueError, match="chunk_size is 0; give at least 1"):
        DELTA_RULE.resolve_chunk_size(0, 5)


def test_without_a_backward_pass_by_hand_the_gradient_is_that_of_autodiff(x64, make):
    rule = Recurrence(
        tokens=DELTA_RULE.tokens, step=DELTA_RULE.step, chunk=DELTA_RULE.chunk
    )
    tokens, memory = make("delta_rule", 17)

    def gradient(rule):
        def total(tokens):
            return jnp.sum(jnp.sin(rule.chunkwise(tokens, memory, chunk_size=4)[0]))

        return jax.jit(jax.grad(total))(tokens)

    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12),
        gradient(rule),
        gradient(DELTA_RULE),
    )


@every_recurrence
@pytest.mark.parametrize("resets", [True, False])
@pytest.mark.parametrize("decay", ["mild", "none"])
def test_the_backward_pass_of_a_chunk_is_its_gradient(
    x64, name, decay, resets, make, make_reset
):
    rule = RECURRENCES[name].rule
    tokens, memory = make(name, 8, keys="correlated", decay=decay, strength=2.0)
    segment = jnp.cumsum(make_reset("inside", 8), axis=1, dtype=jnp.int32)
    segment = segment if resets else None
    rng = np.random.default_rng(1)
    given = tuple(
        jnp.asarray(rng.standard_normal(x.shape)) for x in (memory, tokens.value)
    )

    @jax.jit
    def both(memory, tokens):
        def run(memory, tokens):
            return rule.chunk(memory, tokens, segment)[:2]

        expected = jax.vjp(run, memory, tokens)[1](given)
        saved = rule.chunk(memory, tokens, segment)[2]
        return expected, rule.chunk_backward(memory, tokens, segment, saved, *given)

    expected, found = both(memory, tokens)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9), found, expected
    )
