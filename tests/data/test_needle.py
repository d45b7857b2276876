"""The needle in a haystack against its definition, step by step."""

import dataclasses
import hashlib
import subprocess
import sys
from itertools import islice

import numpy as np
import pytest

from memzoo.data import NeedleConfig, needle
from memzoo.data.batch import Batch
from memzoo.data.needle import FIRST_KEY, PHRASE, solve
from memzoo.data.pipeline import Pipeline
from memzoo.data.task import ENDLESS, SPLITS, fingerprint

CONFIGS = [
    NeedleConfig(),
    NeedleConfig(length=64, depth=(0.0, 0.3, 1.0), value_length=3),
    NeedleConfig(length=19, vocab_size=20, seed=3),
    NeedleConfig(length=700, depth=0.5, vocab_size=1024),
]


def digest(batch: Batch) -> str:
    # Tokens and targets, from which a model learns.
    parts = [array.tobytes() for array in batch[:4]]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def example(batch: Batch, row: int) -> list:
    return [array[row].tolist() for array in batch[:4]]


def written_out(
    config: NeedleConfig, key: int, value: list[int], place: int
) -> tuple[list, list]:
    """Return the layout in plain loops: one row, dense labels."""
    noise = [PHRASE[i % 24] for i in range(config.noise_length)]
    needle = [0, key, 1, *value]
    tokens = [*noise[:place], *needle, *noise[place:], 0, key, 1, *value]
    labels = [-100] * (len(tokens) - len(value) - 1) + value
    return tokens[:-1], labels


def test_the_phrase_is_that_of_the_passkey():
    text = (
        "The grass is green . The sky is blue . The sun is yellow . Here we go . "
        "There and back again ."
    )
    words = list(dict.fromkeys(text.split()))
    assert [2 + words.index(word) for word in text.split()] == list(PHRASE)
    assert len(PHRASE) == 24 and 2 + len(words) == FIRST_KEY


@pytest.mark.parametrize("config", CONFIGS)
def test_every_row_follows_the_definition(config: NeedleConfig):
    indices = np.arange(30)
    batch = config.build("validation").examples(indices)
    assert batch.tokens.shape == (30, config.length)
    assert batch.tokens.dtype == batch.targets.dtype == np.int32
    assert batch.reset is None and batch.valid is None
    for row in indices:
        tokens, targets, positions, weights = example(batch, row)
        assert weights == [1.0] * config.value_length
        place = tokens.index(0)
        key = tokens[place + 1]
        assert FIRST_KEY <= key < config.first_value
        assert all(config.first_value <= v < config.vocab_size for v in targets)
        if config.depths:
            depth = config.depths[row % len(config.depths)]
            assert abs(place - depth * config.noise_length) <= 0.5
        expected, labels = written_out(config, key, targets, place)
        assert tokens == expected
        dense = [-100] * config.length
        for target, position in zip(targets, positions, strict=True):
            dense[position] = target
        assert dense == labels


@pytest.mark.parametrize("config", CONFIGS)
def test_the_oracle_answers_every_row(config: NeedleConfig):
    batch = config.build("test").examples(np.arange(200))
    found = solve(batch.tokens, config.value_length)
    np.testing.assert_array_equal(found, batch.targets)


def test_the_oracle_reads_the_needle_and_not_the_question():
    batch = NeedleConfig().build("test").examples(np.arange(3))
    tokens = batch.tokens.copy()
    tokens[:, -6:] = 5
    np.testing.assert_array_equal(solve(tokens), batch.targets)
    tokens[1, list(tokens[1]).index(0) + 1] += 1
    with pytest.raises(ValueError, match="no needle with the key"):
        solve(tokens)


def test_the_ends_of_the_depth_are_the_ends_of_the_noise():
    config = NeedleConfig(length=40, depth=(0.0, 1.0), value_length=2)
    first, last = config.build("train").examples(np.arange(2)).tokens
    assert list(first[:3:2]) == [0, 1]
    assert list(last[-9:-6]) == [0, last[-3], 1]
    assert config.noise_length == 31


def test_draws_are_uniform():
    config = NeedleConfig(length=64, value_length=2, vocab_size=40)
    rows = 20_000
    batch = config.build("train").examples(np.arange(rows))
    places = np.argmax(batch.tokens == 0, axis=1)
    keys = batch.tokens[:, -3] - FIRST_KEY
    values = batch.targets - config.first_value
    both = values[:, 0] * 11 + values[:, 1]
    for drawn, size in ((places, 56), (keys, 11), (values, 11), (both, 121)):
        counts = np.bincount(drawn.ravel(), minlength=size)
        assert len(counts) == size
        expected = drawn.size / size
        assert np.abs(counts - expected).max() < 4.5 * np.sqrt(expected)


@pytest.mark.parametrize("config", CONFIGS)
def test_an_example_is_the_same_in_any_batch(config: NeedleConfig):
    task = config.build("train")
    indices = np.array([3, 10, 0, 77, 49, 50, 10])
    batch = task.examples(indices)
    for row, index in enumerate(indices):
        assert example(task.examples(np.array([index])), 0) == example(batch, row)


def test_workers_and_processes_make_the_same_rows():
    config = CONFIGS[1]
    with Pipeline(config, "train", 8) as alone:
        expected = list(islice(alone, 2))
    with Pipeline(config, "train", 8, num_workers=2) as working:
        for found, batch in zip(working, expected, strict=False):
            assert digest(found) == digest(batch)
    for index in range(2):
        with Pipeline(config, "train", 8, process_index=index, process_count=2) as half:
            tokens = next(half).tokens
        np.testing.assert_array_equal(tokens, expected[0].tokens[4 * index :][:4])


def test_an_example_is_the_same_in_another_process():
    code = (
        "import hashlib, numpy as np\n"
        "from memzoo.data import NeedleConfig\n"
        "b = NeedleConfig().build('train').examples(np.arange(90, 70, -1))\n"
        "p = [a.tobytes() for a in b[:4]]\n"
        "print(hashlib.sha256(b''.join(p)).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    batch = NeedleConfig().build("train").examples(np.arange(90, 70, -1))
    assert done.stdout.strip() == digest(batch)


def test_golden_bytes():
    """The bytes are the same on every platform. If they must change, raise
    `data_version`."""
    found = [digest(c.build("train").examples(np.arange(100))) for c in CONFIGS]
    assert [d[:16] for d in found] == GOLDEN


def test_seeds_and_splits_share_no_row():
    rows = np.arange(2_000)
    seen = [NeedleConfig().build(split).examples(rows).tokens for split in SPLITS]
    seen.append(NeedleConfig(seed=1).build("train").examples(rows).tokens)
    assert len(np.unique(np.concatenate(seen), axis=0)) == 8_000
    assert len(NeedleConfig().build("train")) == ENDLESS


def test_depth_and_length_change_nothing_but_the_noise():
    """Every setting has the same needles."""
    rows = np.arange(20)
    short = NeedleConfig(depth=0.5).build("test").examples(rows)
    long = NeedleConfig(length=1024, depth=0.0).build("test").examples(rows)
    np.testing.assert_array_equal(short.targets, long.targets)
    np.testing.assert_array_equal(short.tokens[:, -9:], long.tokens[:, -9:])


def test_chance_is_naming_any_value():
    config = NeedleConfig(vocab_size=FIRST_KEY + 21)
    assert config.chance == 1 / 11
    values = config.build("train").examples(np.arange(5_000)).targets
    assert abs(np.mean(values == config.first_value) - config.chance) < 0.01


def test_a_setting_is_the_length_and_the_depth():
    assert NeedleConfig().kinds == ({"length": 256},)
    mixed = NeedleConfig(depth=(0.25, 1), length=512)
    assert mixed.build("test").setting(3) == {"length": 512, "depth": 1.0}
    assert NeedleConfig(depth=0.5).kinds == ({"length": 256, "depth": 0.5},)


def test_fingerprint_holds_every_field():
    first = fingerprint(NeedleConfig(depth=(0.0, 1.0)))
    assert first["task"] == "needle" and first["depth"] == [0.0, 1.0]
    changes = {
        "length": 128,
        "depth": 0.5,
        "vocab_size": 64,
        "value_length": 3,
        "seed": 1,
        "num_needles": 2,
    }
    assert {"task", "data_version", *changes} == set(first)
    for name, value in changes.items():
        changed = fingerprint(NeedleConfig(**{"depth": (0.0, 1.0), name: value}))
        assert [k for k in first if first[k] != changed[k]] == [name]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"length": 18}, "length is 18; with value_length 7 give 19 or more"),
        ({"value_length": 0}, "value_length is 0; give 1 or more"),
        ({"vocab_size": 19}, r"vocab_size is 19; give a number in \[20, 2\^31\]"),
        ({"vocab_size": 2**31 + 1}, "vocab_size is 2147483649; give a number in"),
        ({"depth": ()}, "depth is empty; give a number, or None for any depth"),
        ({"depth": 1.5}, r"depth is 1.5; give a number in \[0, 1\]"),
        ({"depth": (0.0, -0.1)}, "depth is -0.1"),
        ({"depth": float("nan")}, "depth is nan"),
        ({"num_needles": 0}, "num_needles is 0; give 1 or more"),
        (
            {"num_needles": 3, "length": 38},
            "length is 38; with value_length 7 and num_needles 3 give 39 or more",
        ),
        (
            {"num_needles": 12, "vocab_size": 40},
            "num_needles is 12; with vocab_size 40 give 1 to 11, one for each key",
        ),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict, message: str):
    with pytest.raises(ValueError, match=message) as refusal:
        NeedleConfig(**fields)
    assert "\n" not in str(refusal.value)


GOLDEN = [
    "c71eb5fb47bec458",
    "a05a9b5e3adafea5",
    "0620c3bf45b651f8",
    "025ba10f490b5885",
]


def test_the_context_ends_where_the_key_is_asked_for():
    config = NeedleConfig(length=40, value_length=3)
    batch = config.build("test").examples(np.arange(5))
    np.testing.assert_array_equal(batch.context, config.context_length)
    asked = batch.tokens[np.arange(5), batch.context]
    np.testing.assert_array_equal(asked, needle.KEY_MARKER)
    assert config.context_length + 2 == batch.target_positions.min()


SEVERAL = [
    NeedleConfig(length=300, num_needles=4),
    NeedleConfig(length=60, num_needles=5, value_length=2, depth=(0.0, 0.4, 1.0)),
    NeedleConfig(length=39, num_needles=3, seed=2),
    NeedleConfig(length=119, num_needles=11, vocab_size=40, depth=0.5),
]


@pytest.mark.parametrize("config", SEVERAL)
def test_several_needles_follow_the_definition(config: NeedleConfig):
    """Taking the needles out of a row, in plain python, leaves the phrase alone."""
    batch = config.build("validation").examples(np.arange(40))
    order = set()
    for row in range(40):
        tokens, targets, positions, _ = example(batch, row)
        shown, question = (
            tokens[: config.context_length],
            tokens[config.context_length :],
        )
        needles, places = [], []
        while needle.KEY_MARKER in shown:
            at = shown.index(needle.KEY_MARKER)
            needles.append(shown[at : at + config.needle_length])
            places.append(at)
            del shown[at : at + config.needle_length]
        assert shown == [PHRASE[i % 24] for i in range(config.noise_length)]
        keys = [each[1] for each in needles]
        assert len(set(keys)) == len(keys) == config.num_needles
        assert all(FIRST_KEY <= key < config.first_value for key in keys)
        assert all(each[2] == needle.VALUE_MARKER for each in needles)
        assert all(v >= config.first_value for each in needles for v in each[3:])
        number = keys.index(question[1])
        order.add(number)
        assert needles[number][3:] == targets and question == needles[number][:-1]
        assert positions[0] == config.context_length + 2
        if config.depths:
            depth = config.depths[row % len(config.depths)]
            assert abs(places[number] - depth * config.noise_length) <= 0.5
    assert len(order) == config.num_needles
    np.testing.assert_array_equal(
        solve(batch.tokens, config.value_length), batch.targets
    )


def test_one_needle_is_the_same_with_and_without_their_number():
    rows = np.arange(30)
    for config in CONFIGS:
        counted = dataclasses.replace(config, num_needles=1)
        batches = [each.build("train").examples(rows) for each in (config, counted)]
        assert digest(batches[0]) == digest(batches[1])
    assert counted.kinds == ({"length": 700, "num_needles": 1, "depth": 0.5},)
    several = NeedleConfig(num_needles=3, vocab_size=64)
    rows_of = several.build("test")
    np.testing.assert_array_equal(
        rows_of.examples(rows).targets,
        NeedleConfig(vocab_size=64).build("test").examples(rows).targets,
    )
    assert digest(rows_of.examples(rows))[:16] == "6ca00602aaf859f4"


def test_needles_and_their_places_are_uniform():
    config = NeedleConfig(length=40, num_needles=3, value_length=1, vocab_size=28)
    rows = 20_000
    batch = config.build("train").examples(np.arange(rows))
    shown = batch.tokens[:, : config.context_length]
    places = np.nonzero(shown == needle.KEY_MARKER)[1].reshape(rows, 3)
    keys = np.take_along_axis(shown, places + 1, axis=1)
    values = np.take_along_axis(shown, places + 3, axis=1) - config.first_value
    asked = np.argmax(keys == batch.tokens[:, config.context_length + 1, None], 1)
    noise = places - 4 * np.arange(3)
    for drawn, size in (
        (keys - FIRST_KEY, 5),
        (values, 5),
        (asked, 3),
        (noise, config.noise_length + 1),
    ):
        counts = np.bincount(drawn.ravel(), minlength=size)
        assert len(counts) == size
        expected = drawn.size / size
        assert np.abs(counts - expected).max() < 4.5 * np.sqrt(expected)
