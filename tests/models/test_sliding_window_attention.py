"""Attention over a window: visible keys, and the ring that holds them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.interface import SequenceInfo, state_bytes
from memzoo.models.sliding_window_attention import SlidingWindowAttentionConfig
from memzoo.testing import check_layer, laws

WINDOW = 4


def _loop(plain, params, x, heads=2):
    """o_t = sum_s softmax_s(q_t . k_s / sqrt(k)) v_s over t - window < s <= t."""
    query, key, value = (
        (x @ params[f"{name}/kernel"]).reshape(len(x), heads, -1)
        for name in ("query", "key", "value")
    )
    outputs = []
    for t in range(len(x)):
        seen = [s for s in range(len(x)) if t - WINDOW < s <= t]
        reads = []
        for h in range(heads):
            turned = plain.rotate(query[t, h], t)
            logits = [turned @ plain.rotate(key[s, h], s) for s in seen]
            weight = plain.softmax(np.array(logits) / np.sqrt(len(turned)))
            reads.append(weight @ value[seen, h])
        outputs.append(np.concatenate(reads) @ params["read_out/projection/kernel"])
    return np.stack(outputs), None


@pytest.fixture(scope="module")
def built(subject):
    return subject(SlidingWindowAttentionConfig(num_heads=2, window=WINDOW))


@pytest.fixture(scope="module")
def run(built):
    return jax.jit(lambda x, state, info: built.layer(x, state, info))


def test_layer_is_the_published_loop(built, assert_loop, plain):
    assert_loop(built, lambda params, x: _loop(plain, params, x))


def test_the_ring_turns_over(built, run):
    layer, _, x = built
    whole, final = run(x, layer.init_state(2, 100), None)
    state = layer.init_state(2, 100)
    assert state.cache.key.shape[1] == WINDOW
    step = jax.jit(lambda x, state: layer.step(x, state))
    outputs = []
    for t in range(x.shape[1]):
        y, state = step(x[:, t], state)
        outputs.append(y)
    np.testing.assert_allclose(jnp.stack(outputs, axis=1), whole, atol=2e-5)
    np.testing.assert_allclose(state.cache.value, final.cache.value, atol=1e-6)
    # Slot s holds the latest token with position s modulo the window.
    value = x @ layer.value.kernel[...]
    for place in range(x.shape[1] - WINDOW, x.shape[1]):
        held = state.cache.value[:, place % WINDOW].reshape(2, -1)
        np.testing.assert_allclose(held, value[:, place], atol=1e-5)


def test_a_document_that_begins_in_a_call_sees_nothing_carried(built, run):
    layer, _, x = built
    _, carried = run(x, layer.init_state(2, 100), None)
    reset = np.zeros(x.shape[:2], bool)
    reset[:, 2] = True
    y, state = run(x, carried, SequenceInfo(reset=reset))
    alone, other = run(x[:, 2:], layer.init_state(2, 100), None)
    np.testing.assert_allclose(y[:, 2:], alone, atol=2e-5)
    np.testing.assert_array_equal(state.position, other.position)
    np.testing.assert_allclose(state.cache.key, other.cache.key, atol=1e-6)


@pytest.fixture(scope="module")
def persistent(subject):
    config = SlidingWindowAttentionConfig(
        num_heads=2, window=WINDOW, persistent_tokens=2
    )
    return subject(config)


@pytest.mark.parametrize("place", [1, 10**6, 10**7, 10**8, 10**9, 2**31 - 12])
def test_a_full_window_reads_the_same_at_every_place(persistent, place):
    """The window's keys, and the persistent ones, which have no position."""
    layer, _, x = persistent
    run = jax.jit(lambda x, state: layer(x, state)[0])
    start = layer.init_state(2, 100)
    there = start._replace(position=start.position + place)
    wanted, y = run(x, start), run(x, there)
    full = slice(WINDOW - 1, None)
    np.testing.assert_allclose(y[:, full], wanted[:, full], atol=2e-6)


def test_a_ring_that_is_smaller_than_the_window_becomes_full(built, run):
    layer, _, x = built
    whole, _ = run(x, layer.init_state(2, 100), None)
    for slots, fit in ((0, 0), (3, 0), (WINDOW, 5)):
        _, state = run(x[:, :6], layer.init_state(2, slots), None)
        y, _ = run(x[:, 6:], state, None)
        np.testing.assert_allclose(y[:, :fit], whole[:, 6 : 6 + fit], atol=2e-5)
        assert np.all(np.isnan(y[:, fit:]))
        if not fit:
            with pytest.raises(ValueError, match="give max_length=11 or more to"):
                layer(x[:, 6:], state)


def test_bytes_stop_growing_at_the_window(built):
    layer = built.layer
    assert layer.state_growth == "bounded"
    sizes = [state_bytes(layer, length) for length in (2, 4, 5, 1000)]
    assert sizes == [2 * 2 * 8 * 4, 2 * 4 * 8 * 4, 2 * 4 * 8 * 4, 2 * 4 * 8 * 4]


def test_capacity_is_unlimited_once_the_window_fits(built):
    layer = built.layer
    layer.check_capacity(layer.init_state(1, WINDOW), 1000, "layer")
    with pytest.raises(ValueError, match=r"would reach 4 tokens.*allocated for 3"):
        layer.check_capacity(layer.init_state(1, 3), 4, "layer")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window is 0; give a number above 0"),
        ({"key_value_heads": 3}, "key_value_heads 3 does not divide num_heads 4"),
    ],
)
def test_senseless_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SlidingWindowAttentionConfig(**options)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"window": 64}, {"key_value_heads": 1, "convolution_size": 4}],
    ids=str,
)
def test_variants_obey_the_laws(options):
    config = SlidingWindowAttentionConfig(**({"num_heads": 2, "window": 5} | options))
    check_layer(config, width=8)


@pytest.mark.slow
def test_a_window_of_one_token_obeys_all_laws_but_that_of_gradients():
    """A softmax over one logit is 1: queries and keys make no difference."""
    config = SlidingWindowAttentionConfig(num_heads=2, window=1)
    broken = {r.law: str(r.detail) for r in laws(config, width=8) if not r.holds}
    assert list(broken) == ["every parameter gets a finite gradient that is not zero"]
    assert all("['key']" in why and "is zero" in why for why in broken.values())
