"""Set disjointness against its definition."""

import hashlib

import numpy as np
import pytest

from memzoo.data.set_disjointness import (
    BEGIN,
    BLANK,
    QUESTION,
    SEPARATOR,
    SetDisjointnessConfig,
    solve,
)
from memzoo.data.task import ENDLESS, SPLITS, fingerprint

CONFIGS = [
    SetDisjointnessConfig(),
    SetDisjointnessConfig(sizes=((16, 4), (4, 16))),
    SetDisjointnessConfig(sizes=((2, 3), (5, 1), (1, 1)), vocab_size=12, seed=3),
]
GOLDEN = ["d56ee9be1bb7c2ee", "c25b2402b65eba83", "e182179f7715e337"]


def digest(batch) -> str:
    parts = [array.tobytes() for array in batch[:4]]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


@pytest.mark.parametrize("config", CONFIGS)
def test_every_row_follows_the_definition(config):
    batch = config.build("validation").examples(np.arange(60))
    assert batch.tokens.shape == (60, config.length)
    assert batch.tokens.dtype == batch.targets.dtype == np.int32
    assert batch.context.max() == config.context_length == config.length - 1
    for index in range(60):
        first, second = config.sizes[index % len(config.sizes)]
        row = batch.tokens[index].tolist()
        length = first + second + 3
        assert (row[0], row[first + 1]) == (BEGIN, SEPARATOR)
        assert row[length - 1] == QUESTION
        assert row[length:] == [BLANK] * (config.length - length)
        one, two = row[1 : first + 1], row[first + 2 : length - 1]
        assert len(set(one)) == len(one) == first
        assert len(set(two)) == len(two) == second
        assert all(4 <= token < config.vocab_size for token in one + two)
        assert set(one) & set(two) == {batch.targets[index, 0]}
        assert batch.target_positions[index, 0] == length - 1 == batch.context[index]
        if batch.valid is not None:
            np.testing.assert_array_equal(
                batch.valid[index], np.arange(config.length) < length
            )
    assert (batch.valid is None) == (len({sum(pair) for pair in config.sizes}) == 1)
    np.testing.assert_array_equal(batch.target_weights, 1)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_perfect_memory_answers_every_question(config):
    batch = config.build("test").examples(np.arange(50))
    np.testing.assert_array_equal(solve(batch.tokens), batch.targets[:, 0])


def test_other_rows_have_no_solution():
    rows = np.array([[BEGIN, 5, SEPARATOR, 6, QUESTION]], np.int32)
    with pytest.raises(ValueError, match="the sets of row 0 share 0 tokens; give rows"):
        solve(rows)


def test_tokens_and_places_are_uniform():
    config = SetDisjointnessConfig(sizes=((2, 4),), vocab_size=20)
    batch = config.build("train").examples(np.arange(20_000))
    one, two = batch.tokens[:, 1:3], batch.tokens[:, 4:8]
    for tokens in (one, two, batch.targets):
        counts = np.bincount(tokens.ravel() - 4, minlength=16)
        assert len(counts) == 16
        expected = tokens.size / 16
        assert np.abs(counts - expected).max() < 4.5 * np.sqrt(expected)
    for tokens, size in ((one, 2), (two, 4)):
        places = np.bincount(np.argmax(tokens == batch.targets, axis=1))
        expected = len(tokens) / size
        assert np.abs(places - expected).max() < 4.5 * np.sqrt(expected)


def test_chance_is_naming_a_token_of_the_smaller_set():
    assert SetDisjointnessConfig(sizes=((4, 16),)).chance == 1 / 4
    assert SetDisjointnessConfig(sizes=((8, 2), (4, 16))).chance == 3 / 8
    config = SetDisjointnessConfig(sizes=((4, 16),), vocab_size=64)
    batch = config.build("test").examples(np.arange(4_000))
    guesses = batch.tokens[:, 1]
    assert abs(np.mean(guesses == batch.targets[:, 0]) - config.chance) < 0.03


def test_rows_are_measured_by_their_sizes():
    config = SetDisjointnessConfig(sizes=((4, 16), (256, 4)))
    expected = {"first": 256, "second": 4, "length": 263}
    assert config.build("train").setting(3) == config.kinds[1] == expected
    assert config.length == 263


@pytest.mark.parametrize("config", CONFIGS)
def test_an_example_is_the_same_in_any_batch(config):
    task = config.build("train")
    indices = np.array([3, 10, 0, 77, 49, 50, 10])
    batch = task.examples(indices)
    for row, index in enumerate(indices):
        alone = task.examples(np.array([index]))
        for one, all_of_them in zip(alone[:4], batch[:4], strict=True):
            np.testing.assert_array_equal(one[0], all_of_them[row])


def test_golden_bytes():
    """The bytes are the same on every platform. If they must change, raise
    `data_version`."""
    found = [digest(c.build("train").examples(np.arange(100))) for c in CONFIGS]
    assert found == GOLDEN


def test_seeds_and_splits_share_no_row():
    rows = np.arange(500)
    seen = [SetDisjointnessConfig().build(split).examples(rows).tokens
            for split in SPLITS]  # fmt: skip
    seen.append(SetDisjointnessConfig(seed=1).build("train").examples(rows).tokens)
    assert len(np.unique(np.concatenate(seen), axis=0)) == 2_000
    assert len(SetDisjointnessConfig().build("train")) == ENDLESS


def test_fingerprint_holds_every_field():
    first = fingerprint(SetDisjointnessConfig())
    assert set(first) == {"task", "data_version", "sizes", "vocab_size", "seed"}
    assert first["sizes"] == [[4, 16]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sizes": ()}, "sizes is empty; give at least one pair"),
        ({"sizes": ((0, 4),)}, r"sizes holds \(0, 4\); .* give 1 or more for both"),
        ({"sizes": ((9, 8),), "vocab_size": 20}, r"sizes holds \(9, 8\); .* 16 or le"),
        ({"vocab_size": 4}, r"vocab_size is 4; give a number in \[5, 2\^31\]"),
    ],
)
def test_what_does_not_fit_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SetDisjointnessConfig(**fields)
