"""Windows against a plain loop over documents."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.windows import window_scan


def body(carry, tokens, part):
    """Sum the window so far, and count windows and documents."""
    total, windows = carry
    if part.fresh is not None:
        windows = jnp.where(part.fresh, 0, windows)
    total = jnp.where(part.opens, 0, total)
    windows = windows + part.opens
    sums = total[:, None] + jnp.cumsum(jnp.where(part.valid, tokens, 0), axis=1)
    out = jnp.stack([sums, jnp.broadcast_to(windows[:, None], sums.shape)], axis=-1)
    return (sums[:, -1], windows), out


def by_hand(x, count, total, windows, update_every, reset, length):
    out = np.zeros((*x.shape, 2))
    ends = []
    for b in range(x.shape[0]):
        place, held, opened = count[b], total[b], windows[b]
        for t in range(length[b]):
            if reset is not None and reset[b, t]:
                place, opened = 0, 0
            if place % update_every == 0:
                held, opened = 0, opened + 1
            held += x[b, t]
            out[b, t] = held, opened
            place += 1
        ends.append((held, opened))
    return out, np.array(ends)


def places(count, reset, time):
    place = np.asarray(count)[:, None] + np.arange(time)[None]
    if reset is not None:
        for b, t in np.argwhere(np.asarray(reset)):
            place[b, t:] = np.arange(time - t)
    return jnp.asarray(place, jnp.int32)


def scan(x, carry, count, update_every, chunk_size, reset=None, length=None, **options):
    time = x.shape[1]
    valid = None
    if length is not None:
        valid = jnp.arange(time)[None] < jnp.asarray(length)[:, None]
    run = partial(
        window_scan, body, update_every=update_every, chunk_size=chunk_size, **options
    )
    return jax.jit(run)(
        carry, x, place=places(count, reset, time), reset=reset, valid=valid
    )


@pytest.mark.parametrize("update_every", [1, 4, 7])
@pytest.mark.parametrize("chunk_size", [2, 4, 16])
def test_every_start_and_length(update_every, chunk_size):
    x = np.random.default_rng(0).standard_normal((2, 23)).astype(np.float32)
    count, carry = [3, 0], (jnp.array([1.5, 0.0]), jnp.array([1, 0]))
    out, after = scan(jnp.asarray(x), carry, count, update_every, chunk_size)
    expected, ends = by_hand(x, count, [1.5, 0.0], [1, 0], update_every, None, [23, 23])
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.stack(after, 1), ends, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("chunk_size", "moves"), [(2, False), (3, True), (16, False)])
def test_rows_that_begin_with_a_window_need_no_moves(chunk_size, moves):
    """Padding after a row's end is ignored: here it is NaN."""
    x = np.random.default_rng(0).standard_normal((2, 23)).astype(np.float32)
    count, length = [4, 0], [23, 13]
    beyond = np.arange(23)[None] >= np.asarray(length)[:, None]
    carry = (jnp.array([1.5, 0.0]), jnp.array([1, 0]))
    row = jnp.asarray(np.where(beyond, np.nan, x))
    call = jax.jit(
        lambda x: scan(x, carry, count, 4, chunk_size, None, length, aligned=True)
    )
    out, after = call(row)
    expected, ends = by_hand(x, count, [1.5, 0.0], [1, 0], 4, None, length)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.stack(after, 1), ends, rtol=1e-5, atol=1e-5)
    assert ("gather" in call.lower(row).as_text()) == moves


@pytest.mark.parametrize("every", [1, 3, 11])
def test_documents_of_any_length(every):
    """Documents of one token need one window per token: more than one scan holds."""
    x = np.random.default_rng(0).standard_normal((2, 40)).astype(np.float32)
    reset = np.zeros((2, 40), bool)
    reset[0, ::every] = True
    reset[1, 5::every] = True
    length, count = [40, 37], [2, 6]
    carry = (jnp.array([1.5, 0.5]), jnp.array([1, 2]))
    out, after = scan(jnp.asarray(x), carry, count, 8, 8, jnp.asarray(reset), length)
    expected, ends = by_hand(x, count, [1.5, 0.5], [1, 2], 8, reset, length)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.stack(after, 1), ends, rtol=1e-5, atol=1e-5)


def test_every_number_of_windows():
    """A scan holds 10 windows here: 11, 21 and 31 need one more scan for one window."""
    x = np.random.default_rng(0).standard_normal((2, 41)).astype(np.float32)
    run = jax.jit(partial(window_scan, body, update_every=8, chunk_size=8))
    carry = (jnp.zeros(2), jnp.zeros(2, jnp.int32))
    for number in range(1, 42):
        length = [number, (number + 1) // 2]
        valid = np.arange(41)[None] < np.asarray(length)[:, None]
        out, after = run(
            carry, x, place=np.zeros((2, 41), np.int32), reset=valid, valid=valid
        )
        np.testing.assert_array_equal(out[..., 0], np.where(valid, x, 0))
        np.testing.assert_array_equal(out[..., 1], valid)
        last = x[[0, 1], np.asarray(length) - 1]
        np.testing.assert_array_equal(after, [last, [1, 1]])


def test_the_gradient_goes_through_every_scan(x64):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 40)))
    reset = jnp.zeros((2, 40), bool).at[0, ::2].set(True).at[1, 7].set(True)
    carry = (jnp.zeros(2), jnp.zeros(2, jnp.int32))

    def total(x):
        out, _ = scan(x, carry, [0, 0], 8, 8, reset)
        return jnp.sum(jnp.sin(out[..., 0]))

    def plain(x):
        place = places([0, 0], reset, 40)
        sums = []
        for b in range(2):
            held = 0.0
            for t in range(40):
                held = jnp.where(place[b, t] % 8 == 0, 0.0, held) + x[b, t]
                sums.append(jnp.sin(held))
        return sum(sums)

    found, wanted = (jax.jit(jax.grad(f))(x) for f in (total, plain))
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
