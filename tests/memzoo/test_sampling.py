"""Draws compared with those of numpy in float64."""

import functools
import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.sampling import check_sampling, choose_token

VOCABULARY = 12
DRAWS = 64
TINY = float(np.finfo(np.float32).tiny)


@functools.lru_cache
def drawer(temperature, top_k):
    """Return a function that draws `DRAWS` tokens, each with its own key."""

    def draw(logits, key):
        return choose_token(logits, key, temperature=temperature, top_k=top_k)

    draw = jax.vmap(draw, in_axes=(None, 0))
    # Compile for extreme temperatures, since XLA rewrites divisions by constants.
    return draw if 1e-3 <= temperature <= 1e3 else jax.jit(draw)


KEYS = jax.random.split(jax.random.key(5), DRAWS)


def drawn(logits, temperature, top_k=None):
    found = drawer(temperature, top_k)(jnp.asarray(logits)[None, :], KEYS)
    return np.asarray(found)[:, 0]


@functools.lru_cache
def noise():
    draw = jax.vmap(lambda key: jax.random.gumbel(key, (1, VOCABULARY)))
    return np.asarray(draw(KEYS), np.float64)[:, 0]


def reference(logits, temperature, top_k=None):
    """Draw by the definition: a stable sort and a sum."""
    logits = np.asarray(logits, np.float64)
    # A stable sort keeps equal logits in the order of their indices.
    kept = np.argsort(-logits, kind="stable")[:top_k]
    if temperature == 0:
        return np.full(DRAWS, kept[0])
    below = (logits[kept] - logits[kept[0]]) / temperature
    return kept[np.argmax(below + noise()[:, kept], axis=1)]


def random_logits(seed=0, scale=3.0):
    return (scale * np.random.default_rng(seed).normal(size=VOCABULARY)).astype("f4")


@pytest.mark.parametrize("top_k", [None, 1, 2, 5, 99])
@pytest.mark.parametrize("temperature", [1e-3, 0.5, 1.0, 4.0, 1e3])
def test_draws_are_those_of_the_definition(temperature, top_k):
    for seed in range(3):
        logits = random_logits(seed)
        found = drawn(logits, temperature, top_k)
        assert np.array_equal(found, reference(logits, temperature, top_k))


def test_draws_have_their_probabilities():
    logits = random_logits(2, scale=1.0)
    keys = jax.random.split(jax.random.key(0), 20_000)
    found = np.asarray(drawer(0.7, 4)(jnp.asarray(logits)[None], keys))[:, 0]
    kept = np.argsort(-logits)[:4]
    wanted = np.zeros(VOCABULARY)
    wanted[kept] = np.exp(logits[kept] / 0.7)
    wanted /= wanted.sum()
    shares = np.bincount(found, minlength=VOCABULARY) / len(keys)
    assert np.max(np.abs(shares - wanted)) < 4 * math.sqrt(0.25 / len(keys))


@pytest.mark.parametrize("temperature", [0.0, 5e-324, 1e-39, TINY, 1e-30])
@pytest.mark.parametrize("scale", [1.0, 1e30])
def test_tiny_temperatures_take_the_largest(temperature, scale):
    for seed in range(3):
        logits = random_logits(seed, scale)
        best = np.argmax(logits)
        assert set(drawn(logits, temperature)) == {best}


@pytest.mark.parametrize("temperature", [3e38, 1e308])
def test_huge_temperatures_draw_evenly_among_those_kept(temperature):
    logits = random_logits(1)
    flat = np.zeros_like(logits)
    assert np.array_equal(drawn(logits, temperature), reference(flat, 1.0))
    kept = np.argsort(-logits)[:3]
    masked = np.where(np.isin(np.arange(VOCABULARY), kept), 0, -np.inf)
    found = drawn(logits, temperature, 3)
    assert np.array_equal(found, reference(masked, 1.0))
    assert set(found) == set(kept)


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_of_equal_logits_the_first_are_kept_and_no_more(top_k):
    logits = np.full(VOCABULARY, -1.0, "f4")
    logits[[3, 5, 8, 9]] = 2.0
    found = drawn(logits, 1.0, top_k)
    assert set(found) == set([3, 5, 8][:top_k])
    assert np.array_equal(found, reference(logits, 1.0, top_k))
    assert set(drawn(logits, 0.0, top_k)) == {3}


def test_a_tie_at_the_edge_lets_no_more_through():
    logits = np.full(VOCABULARY, -9.0, "f4")
    logits[[7, 2, 4]] = 5.0, 1.0, 1.0
    found = drawn(logits, 50.0, 2)
    assert set(found) == {7, 2}


def test_rows_are_chosen_apart():
    logits = jnp.asarray(np.stack([random_logits(0), random_logits(1)]))
    key = jax.random.key(3)
    both = choose_token(logits, key, temperature=0.0, top_k=2)
    assert both.tolist() == np.argmax(logits, axis=1).tolist()
    kept = np.argsort(-np.asarray(logits), axis=1)[:, :2]
    drawn_rows = jax.vmap(
        lambda key: choose_token(logits, key, temperature=9.0, top_k=2)
    )(KEYS)
    for row in (0, 1):
        assert set(np.asarray(drawn_rows)[:, row]) == set(kept[row])


def test_masked_tokens_are_never_drawn():
    logits = random_logits(4)
    logits[::2] = -np.inf
    for temperature in (0.0, 1e-30, 1.0, 3e38):
        assert not set(drawn(logits, temperature)) & set(range(0, VOCABULARY, 2))


@pytest.mark.parametrize(
    ("temperature", "top_k", "message"),
    [
        (-0.5, None, "temperature is -0.5; give a finite number, 0 or more"),
        (-5e-324, None, "temperature is -5e-324; give a finite number, 0 or more"),
        (math.nan, None, "temperature is nan; give a finite number, 0 or more"),
        (math.inf, None, "temperature is inf; give a finite number, 0 or more"),
        (1.0, 0, "top_k is 0; give 1 or more, or None"),
        (1.0, -3, "top_k is -3; give 1 or more, or None"),
    ],
)
def test_what_cannot_be_drawn_is_refused(temperature, top_k, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        check_sampling(temperature, top_k)
    check_sampling(0.0, 1)
    check_sampling(-0.0, None)


@pytest.mark.parametrize(
    ("temperature", "top_k", "message"),
    [
        ("hot", None, "temperature is 'hot'; give a finite number, 0 or more"),
        (1.0, "5", "top_k is '5'; give 1 or more, or None"),
        (1.0, 2.5, "top_k is 2.5; give 1 or more, or None"),
    ],
)
def test_wrong_types_are_refused(temperature, top_k, message):
    # As without the type checks of the tests.
    with pytest.raises(ValueError, match=f"^{message}"):
        inspect.unwrap(check_sampling)(temperature, top_k)
