"""Attention against the softmax written out in loops, and its forms against each other.

Properties of the blockwise form alone (memory, skipping) have a separate file.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.attention import ALWAYS_VISIBLE, attention

IMPLEMENTATIONS = ("reference", "blockwise")
BLOCK = 8
HEADS = 4


def draw(batch, time, source, groups, size=6, value=5, seed=0, dtype=jnp.float64):
    rng = np.random.default_rng(seed)
    shapes = (
        (batch, time, HEADS, size),
        (batch, source, groups, size),
        (batch, source, groups, value),
        (batch, time, HEADS, value),
    )
    return [jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


def rows(*numbers):
    return jnp.asarray([numbers, numbers], jnp.int32)


def cached_places():
    """Two persistent keys, and a cache of 20 slots that each row fills in part."""
    filled = np.array([[12], [9]])
    place = np.broadcast_to(np.arange(20), (2, 20))
    segment = np.where(place < filled + 5, 0, -1)
    persistent = np.full((2, 2), ALWAYS_VISIBLE)
    return {
        "query_position": jnp.asarray(filled + np.arange(5)),
        "key_position": jnp.asarray(np.concatenate([np.zeros((2, 2), int), place], 1)),
        "key_segment": jnp.asarray(np.concatenate([persistent, segment], 1)),
    }


def packed_places(time):
    """Documents that start at different indices in each row, and one hidden key."""
    start = np.zeros((2, time), int)
    start[0, [3, 11]] = 1
    start[1, [1, 2, 19]] = 1
    segment = np.cumsum(start, axis=1)
    key_segment = segment.copy()
    key_segment[0, 5] = -1
    return {
        "query_segment": jnp.asarray(segment),
        "key_segment": jnp.asarray(key_segment),
    }


def prefix_places():
    """Two documents in the first row, each with a prefix; all prefix in the second."""
    segment = np.zeros((2, 21), int)
    segment[0, 9:] = 1
    place = np.tile(np.arange(21), (2, 1))
    place[0, 9:] -= 9
    prefix = place < np.where(np.arange(2)[:, None] == 0, 5, 21)
    return {
        "query_position": jnp.asarray(place),
        "query_segment": jnp.asarray(segment),
        "key_position": jnp.asarray(np.where(prefix, 0, place)),
        "key_segment": jnp.asarray(segment),
    }


CASES = {
    "one token": (1, 1, 4, {"window": 1}),
    "one less than a block": (7, 7, 4, {}),
    "one more than a block": (9, 9, 2, {"scale": -0.3}),
    "several blocks": (37, 37, 1, {}),
    "window within a block": (37, 37, 2, {"window": 3}),
    "window over blocks": (37, 37, 2, {"window": 19}),
    "documents": (21, 21, 2, packed_places(21)),
    "prefixes": (21, 21, 2, prefix_places()),
    "cache": (5, 22, 2, cached_places()),
    "cache and window": (5, 22, 4, {"window": 3, **cached_places()}),
    "nothing seen": (
        2,
        3,
        2,
        {"query_position": rows(0, 7), "key_position": rows(5, 3, 6)},
    ),
}


def by_loops(q, k, v, *, scale=None, window=None, **places):
    """Compute softmax over the keys each query sees, one query and head at a time."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    batch, time, heads, size = q.shape
    source, groups = k.shape[1:3]
    default = {
        "query_position": np.tile(np.arange(time), (batch, 1)),
        "key_position": np.tile(np.arange(source), (batch, 1)),
        "query_segment": np.zeros((batch, time), int),
        "key_segment": np.zeros((batch, source), int),
    }
    at = {name: np.asarray(places.get(name, x)) for name, x in default.items()}
    o = np.zeros((batch, time, heads, v.shape[-1]))
    for b, i in np.ndindex(batch, time):
        seen = []
        for j in range(source):
            segment = at["key_segment"][b, j]
            behind = at["query_position"][b, i] - at["key_position"][b, j]
            inside = behind >= 0 and (window is None or behind < window)
            mine = segment >= 0 and segment == at["query_segment"][b, i]
            if segment == ALWAYS_VISIBLE or (mine and inside):
                seen.append(j)
        for h in range(heads):
            if not seen:
                continue
            group = h // (heads // groups)
            logits = k[b, seen, group] @ q[b, i, h]
            logits = logits * (size**-0.5 if scale is None else scale)
            weight = np.exp(logits - logits.max())
            o[b, i, h] = weight @ v[b, seen, group] / weight.sum()
    return o


def with_gradients(implementation, **options):
    """Return a jitted (q, k, v, o_bar) -> o and the gradients of q, k and v."""
    run = functools.partial(
        attention, implementation=implementation, block_size=BLOCK, **options
    )

    @jax.jit
    def both(q, k, v, o_bar):
        o, back = jax.vjp(run, q, k, v)
        return o, *back(o_bar)

    return both


@functools.lru_cache
def outcome(case, implementation):
    time, source, groups, options = CASES[case]
    found = with_gradients(implementation, **options)(*draw(2, time, source, groups))
    return [np.asarray(x) for x in found]


@pytest.mark.parametrize("case", CASES)
def test_reference_is_the_softmax_written_in_loops(case, x64):
    time, source, groups, options = CASES[case]
    q, k, v, _ = draw(2, time, source, groups)
    expected = by_loops(q, k, v, **options)
    np.testing.assert_allclose(
        outcome(case, "reference")[0], expected, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("case", CASES)
def test_blockwise_is_the_reference_with_all_gradients(case, x64):
    expected, given = (outcome(case, name) for name in IMPLEMENTATIONS)
    for theirs, ours in zip(expected, given, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_a_prefix_is_a_mask_that_is_open_inside_it(x64):
    """The mask by hand: a square per prefix on a triangle per document."""
    q, k, v, _ = draw(2, 21, 21, 2)
    seen = np.tile(np.tril(np.ones((21, 21), bool)), (2, 1, 1))
    seen[0, 9:, :9] = False
    seen[0, :5, :5] = seen[0, 9:14, 9:14] = seen[1] = True
    logits = np.einsum("bthk,bshk->bhts", q, np.repeat(k, 2, axis=2)) / np.sqrt(6)
    weight = np.exp(logits) * seen[:, None]
    weight /= weight.sum(axis=-1, keepdims=True)
    expected = np.einsum("bhts,bshv->bthv", weight, np.repeat(v, 2, axis=2))
    given = outcome("prefixes", "blockwise")[0]
    np.testing.assert_allclose(given, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("block_size", [3, 16, 64])
def test_block_size_changes_no_result(block_size, x64):
    q, k, v, _ = draw(2, 37, 37, 2)
    expected = outcome("window over blocks", "reference")[0]
    run = jax.jit(
        functools.partial(
            attention, window=19, block_size=block_size, implementation="blockwise"
        )
    )
    given = run(q, k, v)
    np.testing.assert_allclose(given, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_query_that_sees_nothing_puts_out_zero_with_zero_gradient(
    implementation, x64
):
    o, q_bar, k_bar, v_bar = outcome("nothing seen", implementation)
    assert not np.any(o[:, 0])
    assert not np.any(q_bar[:, 0])
    assert np.all(o[:, 1])
    for gradient in (q_bar, k_bar, v_bar):
        assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("case", ["documents", "cache"])
def test_keys_that_nobody_sees_get_no_gradient(case, implementation, x64):
    _, _, k_bar, v_bar = outcome(case, implementation)
    hidden = np.asarray(CASES[case][3]["key_segment"]) < 0
    for gradient in (k_bar, v_bar):
        assert not np.any(gradient[hidden])
    assert np.all(np.any(v_bar[~hidden], axis=(1, 2)))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("sources", [0, 3])
def test_no_keys_or_no_queries_is_allowed(implementation, sources):
    time = 2 if sources == 0 else 0
    q, k, v, o_bar = draw(2, time, sources, 2, dtype=jnp.float32)
    position = {
        "query_position": jnp.zeros((2, time), jnp.int32),
        "key_position": jnp.zeros((2, sources), jnp.int32),
    }

    o, *gradients = with_gradients(implementation, **position)(q, k, v, o_bar)
    assert o.shape == (2, time, HEADS, 5)
    for x in (o, *gradients):
        assert not np.any(x)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_logits_of_ten_thousand_stay_finite(implementation):
    q, k, v, o_bar = draw(1, 17, 17, 2, dtype=jnp.float32)
    o, *gradients = with_gradients(implementation, scale=1e4)(q, k, v, o_bar)
    for x in (o, *gradients):
        assert np.all(np.isfinite(x))
    # The softmax selects a single key.
    np.testing.assert_allclose(o, by_loops(q, k, v, scale=1e4), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_bfloat16_stays_close_and_keeps_its_type(implementation):
    narrow = draw(2, 37, 37, 2, dtype=jnp.bfloat16)
    given = with_gradients(implementation)(*narrow)
    truth = with_gradients("reference")(*(x.astype(jnp.float32) for x in narrow))
    for ours, theirs in zip(given, truth, strict=True):
        assert ours.dtype == jnp.bfloat16
        ours, theirs = (np.asarray(x, np.float32) for x in (ours, theirs))
        assert np.max(np.abs(ours - theirs)) < 0.02 * np.max(np.abs(theirs))


def test_the_output_has_the_type_of_the_values():
    q, k, v, _ = draw(1, 4, 4, 2, dtype=jnp.float32)
    o = jax.eval_shape(attention, q, k, v.astype(jnp.bfloat16))
    assert o.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("case", "implementation"),
    [
        ("several blocks", "reference"),
        ("several blocks", "blockwise"),
        ("window over blocks", "blockwise"),
        ("documents", "blockwise"),
    ],
)
def test_no_bit_of_an_output_depends_on_what_comes_later(
    jit_as_users, case, implementation
):
    time, source, groups, options = CASES[case]
    q, k, v, _ = draw(2, time, source, groups, dtype=jnp.float32)
    run = jit_as_users(
        functools.partial(
            attention, implementation=implementation, block_size=BLOCK, **options
        )
    )
    before = np.asarray(run(q, k, v))
    for cut in (1, 8, 13):
        later = np.arange(time)[None, :, None, None] >= cut
        changed = (np.where(later, np.asarray(x) * -7 + 1, x) for x in (q, k, v))
        assert np.array_equal(before[:, :cut], np.asarray(run(*changed))[:, :cut])


def test_later_document_starts_change_no_bit_of_earlier_outputs(jit_as_users):
    q, k, v, _ = draw(1, 37, 37, 2, dtype=jnp.float32)
    run = jit_as_users(
        functools.partial(attention, implementation="blockwise", block_size=BLOCK)
    )
    one = np.zeros((1, 37), np.int32)
    two = (np.arange(37) >= 20).astype(np.int32)[None]
    whole, split = (
        np.asarray(run(q, k, v, query_segment=x, key_segment=x)) for x in (one, two)
    )
    assert np.array_equal(whole[:, :20], split[:, :20])
    assert not np.array_equal(whole[:, 20:], split[:, 20:])


def test_auto_is_blockwise_where_cudnn_does_not_apply(x64):
    q, k, v, _ = draw(2, 9, 9, 2)
    blockwise = functools.partial(attention, implementation="blockwise")
    assert str(jax.make_jaxpr(attention)(q, k, v)) == str(
        jax.make_jaxpr(blockwise)(q, k, v)
    )


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN needs a GPU")
@pytest.mark.parametrize("window", [None, 19])
def test_cudnn_is_close_to_the_reference(window):
    inputs = draw(2, 128, 128, 2, 64, 64, dtype=jnp.bfloat16)
    given = with_gradients("cudnn", window=window)(*inputs)
    truth = with_gradients("reference", window=window)(*inputs)
    for ours, theirs in zip(given, truth, strict=True):
        ours, theirs = (np.asarray(x, np.float32) for x in (ours, theirs))
        assert np.max(np.abs(ours - theirs)) < 0.03 * np.max(np.abs(theirs))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window is 0; give at least 1"),
        ({"block_size": 0}, "block_size is 0; give at least 1"),
        ({"query_position": rows(0, 1, 2)}, "is given; give both or neither"),
        ({"key_position": rows(0, 1, 2)}, "is given; give both or neither"),
    ],
)
def test_refused_options(options, message):
    q, k, v, _ = draw(2, 3, 3, 2, dtype=jnp.float32)
    with pytest.raises(ValueError, match=message):
        attention(q, k, v, **options)


def test_refused_shapes():
    q, k, v, _ = draw(2, 3, 3, 3, dtype=jnp.float32)
    with pytest.raises(ValueError, match="4 heads are not a multiple of 3 key"):
        attention(q, k, v)
    q, k, v, _ = draw(2, 3, 5, 2, dtype=jnp.float32)
    with pytest.raises(ValueError, match="3 queries and 5 keys have no common order"):
        attention(q, k, v)


def test_a_misspelt_implementation_is_refused():
    q, k, v, _ = draw(2, 3, 3, 2, dtype=jnp.float32)
    # The tests' type checks would catch it first.
    plain = getattr(attention, "__wrapped__", attention)
    with pytest.raises(ValueError, match="'blokwise'; choose auto, blockwise"):
        plain(q, k, v, implementation="blokwise")


def test_cudnn_is_refused_where_it_does_not_apply():
    q, k, v, _ = draw(2, 3, 3, 2, dtype=jnp.float32)
    with pytest.raises(ValueError, match="implementation is 'cudnn', but the"):
        attention(q, k, v, implementation="cudnn")
