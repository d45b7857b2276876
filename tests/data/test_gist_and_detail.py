"""Gist and detail against their definition, in plain python."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from memzoo.data.batch import Batch
from memzoo.data.gist_and_detail import GistAndDetailConfig, solve
from memzoo.data.task import ENDLESS, SPLITS, fingerprint

CONFIGS = [
    GistAndDetailConfig(),
    GistAndDetailConfig(num_segments=1, segment_length=3, majority=2, num_themes=2),
    GistAndDetailConfig(num_segments=16, majority=8, words_per_theme=128, seed=3),
    GistAndDetailConfig(
        segment_length=20, majority=11, num_themes=7, words_per_theme=50
    ),
]


def digest(batch: Batch) -> str:
    parts = [np.asarray(array).tobytes() for array in batch[:4]]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def segments(config: GistAndDetailConfig, tokens: list[int]) -> dict[int, list[int]]:
    """Return the words of a row by the name of their segment."""
    size = config.segment_length + 1
    parts = [tokens[at : at + size] for at in range(0, config.context_length, size)]
    return {part[0]: part[1:] for part in parts}


def theme_of(config: GistAndDetailConfig, word: int) -> int:
    return (word - 18 - config.num_themes) // config.words_per_theme


@pytest.mark.parametrize("config", CONFIGS)
def test_every_row_follows_the_definition(config: GistAndDetailConfig):
    batch = config.build("validation").examples(np.arange(60))
    count = config.num_segments
    assert batch.tokens.shape == (60, config.length)
    assert batch.tokens.dtype == batch.targets.dtype == np.int32
    assert batch.reset is None and batch.valid is None
    np.testing.assert_array_equal(batch.target_weights, np.ones((60, count)))
    np.testing.assert_array_equal(batch.context, config.context_length)
    for row, tokens in enumerate(batch.tokens.tolist()):
        shown = segments(config, tokens)
        assert len(shown) == count and all(2 <= name < 18 for name in shown)
        words = [word for segment in shown.values() for word in segment]
        assert len(set(words)) == len(words) == count * config.segment_length
        assert 18 + config.num_themes <= min(words) <= max(words) < config.vocab_size
        places = batch.target_positions[row].tolist()
        assert places == [config.context_length + 1 + 2 * n for n in range(count)]
        assert all(tokens[place - 1] == row % 2 for place in places)
        asked = [tokens[place] for place in places]
        if row % 2 == 0:
            assert sorted(asked) == sorted(shown)
            for name, target in zip(asked, batch.targets[row], strict=True):
                votes = Counter(theme_of(config, word) for word in shown[name])
                assert votes[target - 18] == config.majority
        else:
            home = {word: name for name, part in shown.items() for word in part}
            assert sorted(home[word] for word in asked) == sorted(shown)
            for word, target in zip(asked, batch.targets[row], strict=True):
                segment = shown[home[word]]
                assert segment[segment.index(word) + 1] == target
    np.testing.assert_array_equal(solve(batch.tokens, config), batch.targets)


def test_segments_with_other_names_give_the_chance_of_a_gist():
    config = GistAndDetailConfig(num_themes=5)
    batch = config.build("train").examples(np.arange(0, 4_000, 2))
    tokens, names = batch.tokens.copy(), np.arange(0, config.context_length, 9)
    tokens[:, names] = np.roll(tokens[:, names], 1, axis=1)
    found = np.mean(solve(tokens, config) == batch.targets)
    chance = config.chance_of(config.kinds[0])
    assert chance == 1 / 5 and abs(found - chance) < 0.03


def test_words_in_another_order_give_the_chance_of_a_detail():
    config = GistAndDetailConfig(num_segments=2, segment_length=4, majority=3)
    batch = config.build("train").examples(np.arange(1, 40_000, 2))
    firsts = batch.tokens[:, None, [1, 6]]
    # Keep the rows that ask about the first words, which are never answers.
    kept = (batch.tokens[:, [11, 13], None] == firsts).any(axis=2).all(axis=1)
    tokens, later = batch.tokens[kept], [2, 3, 4, 7, 8, 9]
    rng = np.random.default_rng(0)
    tokens[:, later] = rng.permuted(tokens[:, later], axis=1)
    found = np.mean(solve(tokens, config) == batch.targets[kept])
    chance = config.chance_of(config.kinds[1])
    assert chance == 1 / 6 and len(tokens) > 2_000
    assert abs(found - chance) < 0.03


def test_one_word_gives_a_gist_as_often_as_its_theme_has_the_majority():
    config = GistAndDetailConfig(majority=6)
    batch = config.build("train").examples(np.arange(0, 4_000, 2))
    right = []
    for tokens, targets in zip(batch.tokens.tolist(), batch.targets, strict=True):
        shown = segments(config, tokens)
        for name, target in zip(
            tokens[config.context_length + 1 :: 2], targets, strict=True
        ):
            right.append(theme_of(config, shown[name][3]) == target - 18)
    assert abs(np.mean(right) - 6 / 8) < 0.03


def test_draws_are_uniform():
    config = GistAndDetailConfig(
        num_segments=2, segment_length=4, majority=3, num_themes=3, words_per_theme=7
    )
    batch = config.build("train").examples(np.arange(20_000))
    shown = batch.tokens[:, :10].reshape(-1, 2, 5)
    words = shown[:, :, 1:] - 21
    themes = words // 7
    gist = batch.targets[::2] - 18
    # Numbered as asked for, so sort the segments by the order of the questions.
    order = np.argmax(shown[::2, :, 0, None] == batch.tokens[::2, None, 11::2], axis=1)
    theme = np.take_along_axis(themes[::2], order[:, :, None], axis=1)
    odd = np.argmax(theme != gist[:, :, None], axis=2)
    other = np.take_along_axis(theme, odd[:, :, None], axis=2)[:, :, 0]
    before = batch.tokens[1::2, 11::2, None, None] == shown[1::2, None, :, 1:]
    for drawn, size in (
        (shown[:, 0, 0] - 2, 16),
        (gist[:, 0] * 3 + gist[:, 1], 9),
        (odd, 4),
        ((other - gist) % 3 - 1, 2),
        (words[:, 0, 2], 21),
        (order[:, 0], 2),
        (np.argmax(before.any(axis=2), axis=2), 3),
    ):
        counts = np.bincount(drawn.ravel(), minlength=size)
        assert len(counts) == size
        expected = drawn.size / size
        assert np.abs(counts - expected).max() < 4.5 * np.sqrt(expected)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_row_is_the_same_in_any_batch(config: GistAndDetailConfig):
    task = config.build("train")
    batch = task.examples(np.array([3, 10, 0, 77]))
    for row, index in enumerate([3, 10, 0, 77]):
        alone = task.examples(np.array([index]))
        np.testing.assert_array_equal(alone.tokens[0], batch.tokens[row])
        np.testing.assert_array_equal(alone.targets[0], batch.targets[row])


def test_golden_bytes():
    """The bytes are the same on every platform. If they must change, raise
    `data_version`."""
    found = [digest(c.build("train").examples(np.arange(100))) for c in CONFIGS]
    assert [d[:16] for d in found] == GOLDEN


def test_seeds_and_splits_share_no_row():
    rows = np.arange(2_000)
    config = GistAndDetailConfig()
    seen = [config.build(split).examples(rows).tokens for split in SPLITS]
    seen.append(GistAndDetailConfig(seed=1).build("train").examples(rows).tokens)
    assert len(np.unique(np.concatenate(seen), axis=0)) == 8_000
    assert len(config.build("train")) == ENDLESS


def test_settings_and_chances_are_those_of_the_kind_of_question():
    config = GistAndDetailConfig(num_segments=3, segment_length=5, majority=3)
    gist, detail = config.kinds
    assert gist == {"question": "gist", "num_segments": 3, "length": 24}
    assert detail == {**gist, "question": "detail"}
    assert config.build("test").setting(7) == detail
    assert [config.chance_of(kind) for kind in config.kinds] == [1 / 4, 1 / 12]
    assert config.chance == 1 / 6


def test_fingerprint_holds_every_field():
    first = fingerprint(GistAndDetailConfig())
    changes = {
        "num_segments": 2,
        "segment_length": 7,
        "majority": 6,
        "num_themes": 3,
        "words_per_theme": 39,
        "seed": 1,
    }
    assert {"task", "data_version", *changes} == set(first)
    for name, value in changes.items():
        changed = fingerprint(GistAndDetailConfig(**{name: value}))
        assert [k for k in first if first[k] != changed[k]] == [name]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_segments": 0}, "num_segments is 0; give 1 to 16"),
        ({"num_segments": 17}, "num_segments is 17; give 1 to 16"),
        ({"segment_length": 1}, "segment_length is 1; give 2 to 249999997"),
        ({"majority": 4}, "majority is 4; with segment_length 8 give 5 to 8"),
        ({"majority": 9}, "majority is 9; with segment_length 8 give 5 to 8"),
        (
            {"words_per_theme": 19},
            "words_per_theme is 19; with num_segments 4 and majority 5 give 20 to 10+",
        ),
        ({"num_themes": 1}, "num_themes is 1; give 2 to 52377649"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict, message: str):
    with pytest.raises(ValueError, match=f"^{message}$") as refusal:
        GistAndDetailConfig(**fields)
    assert "\n" not in str(refusal.value)


def test_rows_that_do_not_show_what_they_ask_for_are_refused():
    config = GistAndDetailConfig()
    tokens = config.build("test").examples(np.arange(2)).tokens.copy()
    absent = next(name for name in range(2, 18) if name not in tokens[0])
    tokens[0, -1] = absent
    with pytest.raises(ValueError, match=f"row 0 asks about token {absent}, after"):
        solve(tokens, config)


GOLDEN = [
    "edf4ecb8559ec6cd",
    "3ba29f8faa3cc50e",
    "a3b0b0fe1870f82f",
    "c9ed093ecfa27fc3",
]
