"""The generator: published values, uniformity, independence of call order."""

import itertools
import math

import numpy as np
import pytest

from memzoo.data import counter


def chi_square(values: np.ndarray, size: int) -> float:
    """Return the distance from uniform as a standard normal (Wilson and Hilferty)."""
    expected = values.size / size
    counts = np.bincount(values.ravel(), minlength=size)
    statistic = ((counts - expected) ** 2 / expected).sum()
    spread = 2 / (9 * (size - 1))
    return ((statistic / (size - 1)) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)


def test_bits_are_splitmix64():
    """The first outputs of SplitMix64 for the seed 1234567, as published."""
    words = counter.bits(np.array([1234567], np.uint64), 5)[0]
    assert words.tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_golden_keys():
    """A change of these changes every data set."""
    found = counter.key(7, 1, 2, index=np.array([0, 1, 2**40]))
    assert found.tolist() == GOLDEN_KEYS
    assert counter.key(-1).tolist() == counter.key(2**64 - 1).tolist()


def test_bits_do_not_depend_on_how_they_are_asked_for():
    keys = counter.key(3, 1, index=np.arange(50))
    whole = counter.bits(keys, 20)
    np.testing.assert_array_equal(counter.bits(keys[7:9], 5, start=15), whole[7:9, 15:])
    again = counter.key(3, 1, index=np.array([8]))
    np.testing.assert_array_equal(counter.bits(again, 20)[0], whole[8])


def test_streams_are_apart():
    """Neighbouring seeds, paths and indices give unrelated keys."""
    seeds, paths = range(4), [(), (0,), (1,), (0, 0), (0, 1), (1, 0)]
    keys = [
        counter.key(seed, *path, index=np.arange(100))
        for seed, path in itertools.product(seeds, paths)
    ]
    assert len(np.unique(np.concatenate(keys))) == 4 * 6 * 100


@pytest.mark.parametrize("size", [2, 10, 255, 1023])
def test_bounded_is_uniform_over_counters_indices_and_seeds(size: int):
    over_counters = counter.bits(counter.key(1), 100_000)
    over_indices = counter.bits(counter.key(1, index=np.arange(100_000)), 1)
    over_seeds = np.concatenate([counter.bits(counter.key(s), 1) for s in range(1_000)])
    for words in (over_counters, over_indices, over_seeds):
        values = counter.bounded(words, size)
        assert values.min() >= 0 and values.max() < size
        assert abs(chi_square(values, size)) < 4


def test_pairs_of_neighbours_are_uniform():
    values = counter.bounded(
        counter.bits(counter.key(5, index=np.arange(1_000)), 2), 16
    )
    assert abs(chi_square(values[:, 0] * 16 + values[:, 1], 256)) < 4
    assert abs(chi_square(values[1:, 0] * 16 + values[:-1, 0], 256)) < 4


def test_bounded_is_the_floor_of_the_product():
    words = counter.bits(counter.key(2), 200)[0]
    words[:2] = [0, 2**64 - 1]
    for size in (1, 3, 1000, 2**32 - 1, 2**32):
        exact = [int(word) * size // 2**64 for word in words]
        assert counter.bounded(words, size).tolist() == exact


@pytest.mark.parametrize("size", [0, 2**32 + 1])
def test_bounded_refuses_a_size_out_of_range(size: int):
    with pytest.raises(ValueError, match=f"size is {size}; it must lie in"):
        counter.bounded(np.zeros(1, np.uint64), size)


@pytest.mark.parametrize(("count", "size"), [(1, 1), (3, 7), (4, 7), (7, 7), (30, 100)])
def test_distinct_draws_without_replacement(count: int, size: int):
    keys = counter.key(1, index=np.arange(30_000 // count))
    values = counter.distinct(keys, count, size)
    assert values.shape == (len(keys), count)
    assert all(len(set(row)) == count for row in values.tolist())
    if size > 1:
        assert abs(chi_square(values[:, 0], size)) < 4
        assert abs(chi_square(values[:, -1], size)) < 4
    alone = counter.distinct(keys[11:12], count, size)
    np.testing.assert_array_equal(alone[0], values[11])


def test_distinct_is_uniform_over_ordered_draws():
    values = counter.distinct(counter.key(4, index=np.arange(40_000)), 2, 5)
    pairs = values[:, 0] * 5 + values[:, 1]
    names = {
        a * 5 + b: i for i, (a, b) in enumerate(itertools.permutations(range(5), 2))
    }
    assert abs(chi_square(np.array([names[p] for p in pairs.tolist()]), 20)) < 4


def test_distinct_refuses_more_than_there_are():
    with pytest.raises(ValueError, match="cannot draw 4 different integers from 3"):
        counter.distinct(counter.key(0), 4, 3)


def test_permutation_has_every_integer_once():
    first, second = (counter.permutation(counter.key(s), 1000) for s in (0, 1))
    assert sorted(first.tolist()) == list(range(1000))
    assert (first != second).mean() > 0.9


def test_exponential_is_minus_the_logarithm():
    words = counter.bits(counter.key(1), 100_000)
    words[0, :4] = [0, 2**63, 2**64 - 1, 2**63 - 1]
    found = counter.exponential(words).astype(np.float64) / 2**25
    fraction = ((words >> np.uint64(11)) | np.uint64(1)).astype(np.float64) / 2**53
    np.testing.assert_allclose(found, -np.log2(fraction), rtol=0, atol=2**-23)
    assert counter.exponential(words).max() < 2**31


GOLDEN_KEYS = [17223658795427227171, 5987806442052319794, 6177826447391455470]
