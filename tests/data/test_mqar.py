"""The recall task against its definition, step by step."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from memzoo.data import MqarConfig
from memzoo.data.batch import Batch
from memzoo.data.task import ENDLESS, SPLITS, fingerprint

CONFIGS = [
    MqarConfig(),
    MqarConfig(vocab_size=12, length=10, num_pairs=2),
    MqarConfig(vocab_size=256, length=64, num_pairs=4, filler="random"),
    MqarConfig(vocab_size=256, length=64, num_pairs=5, num_passes=3, power=1.0),
    MqarConfig(num_pairs=(2, 16, 7), num_examples=50, seed=3),
    MqarConfig(vocab_size=64, length=40, num_pairs=(6, 4), num_queries=3, num_passes=2),
]


def digest(batch: Batch) -> str:
    # Tokens and targets, from which a model learns.
    parts = [array.tobytes() for array in batch[:4] if array is not None]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def example(batch: Batch, row: int) -> list:
    return [array[row].tolist() for array in batch[:4] if array is not None]


def written_out(
    config: MqarConfig, keys: list, values: list, chosen: list, slots: list
) -> tuple[list, list]:
    """Return Zoology's layout in plain loops: one row with blank filler, dense
    labels.
    """
    context = []
    for _ in range(config.num_passes):
        for key, value in zip(keys, values, strict=True):
            context += [key, value]
    queries = [0] * (config.length - len(context) + 1)
    labels = [-100] * (config.length + 1)
    for pair, slot in zip(chosen, slots, strict=True):
        queries[2 * slot] = keys[pair]
        labels[len(context) + 2 * slot + 1] = values[pair]
    return (context + queries)[:-1], labels[1:]


@pytest.mark.parametrize("config", CONFIGS)
def test_every_row_follows_the_definition(config: MqarConfig):
    indices = np.arange(60)
    batch = config.build("validation").examples(indices)
    assert batch.tokens.shape == (60, config.length)
    assert batch.tokens.dtype == batch.targets.dtype == np.int32
    assert batch.reset is None and batch.valid is None
    half = config.vocab_size // 2
    for row in indices:
        tokens, targets, positions, weights = example(batch, row)
        pairs = config.settings[row % len(config.settings)]
        asked = pairs if config.num_queries is None else config.num_queries
        assert weights == [1.0] * asked + [0.0] * (len(weights) - asked)
        keys, values = tokens[0 : 2 * pairs : 2], tokens[1 : 2 * pairs : 2]
        assert len(set(keys)) == len(set(values)) == pairs
        assert all(1 <= key < half for key in keys)
        assert all(half <= value < config.vocab_size for value in values)
        block = 2 * pairs * config.num_passes
        assert batch.context is not None
        assert batch.context[row] == block <= config.context_length
        slots = [(position - block) // 2 for position in positions[:asked]]
        chosen = [keys.index(tokens[position]) for position in positions[:asked]]
        assert len(set(chosen)) == asked
        expected, labels = written_out(config, keys, values, chosen, slots)
        if config.filler == "blank":
            assert tokens == expected
        else:
            assert all(e in (0, t) for t, e in zip(tokens, expected, strict=True))
        dense = [-100] * config.length
        for target, position in list(zip(targets, positions, strict=True))[:asked]:
            dense[position] = target
        assert dense == labels


@pytest.mark.parametrize("config", CONFIGS)
def test_a_lookup_answers_every_query(config: MqarConfig):
    """A perfect memory scores 1.0 from only the tokens before each query."""
    batch = config.build("test").examples(np.arange(40))
    for row in range(40):
        tokens, targets, positions, weights = example(batch, row)
        pairs = config.settings[row % len(config.settings)]
        asked = int(sum(weights))
        memory = {tokens[i]: tokens[i + 1] for i in range(0, 2 * pairs, 2)}
        answers = [memory[tokens[position]] for position in positions[:asked]]
        assert answers == targets[:asked]


def drawn_slots(config: MqarConfig, rows: int) -> np.ndarray:
    batch = config.build("train").examples(np.arange(rows))
    block = 2 * config.settings[0] * config.num_passes
    return (batch.target_positions - block) // 2


@pytest.mark.parametrize("power", [0.01, 1.0, 1.7])
def test_first_two_slots_have_their_probabilities(power: float):
    """P(first = i) is w_i; P(first = i, second = j) is w_i w_j / (1 - w_i)."""
    config = MqarConfig(length=24, num_pairs=3, power=power)
    rows, space = 40_000, 9
    slots = drawn_slots(config, rows)
    weight = np.arange(1, space + 1) ** (power - 1.0)
    weight /= weight.sum()
    joint = weight[:, None] * weight[None, :] / (1 - weight[:, None])
    np.fill_diagonal(joint, 0)
    found = np.zeros((space, space))
    np.add.at(found, (slots[:, 0], slots[:, 1]), 1 / rows)
    error = np.sqrt(joint / rows)
    assert (np.abs(found - joint) <= 4.5 * error).all()
    assert np.abs(found.sum(1) - weight).max() < 4.5 * np.sqrt(0.25 / rows)


def test_the_docstring_gives_the_defaults_that_differ():
    """Zoology's own defaults: random filler, 8192 tokens, 8 pairs."""
    config, text = MqarConfig(), " ".join((MqarConfig.__doc__ or "").split())
    ours = f"{config.filler} filler, a vocabulary of {config.vocab_size} and "
    ours += f"{config.num_pairs} pairs"
    assert f"{ours}; Zoology: random filler, 8192 and 8" in text


def test_as_many_queries_as_slots_leave_power_their_order_alone():
    rows = [drawn_slots(MqarConfig(power=power), 50) for power in (0.01, 1.0)]
    for slots in rows:
        np.testing.assert_array_equal(np.sort(slots), np.tile(np.arange(16), (50, 1)))
    assert (rows[0] != rows[1]).any()


def test_slots_are_included_as_often_as_by_successive_sampling():
    config = MqarConfig(length=64, num_pairs=8)
    rows, space = 6_000, 24
    slots = drawn_slots(config, rows)
    generator = np.random.default_rng(0)
    weight = np.arange(1, space + 1) ** (config.power - 1.0)
    weight /= weight.sum()
    reference = np.zeros(space)
    for _ in range(rows):
        chosen = generator.choice(space, 8, replace=False, p=weight)
        reference[chosen] += 1 / rows
    found = np.bincount(slots.ravel(), minlength=space) / rows
    assert np.abs(found - reference).max() < 4.5 * np.sqrt(2 * 0.25 / rows)


def test_every_pair_is_asked_for_as_often():
    config = MqarConfig(length=24, num_pairs=6, num_queries=2)
    batch = config.build("train").examples(np.arange(30_000))
    asked = np.take_along_axis(batch.tokens, batch.target_positions, axis=1)
    number = (asked[:, :, None] == batch.tokens[:, None, 0:12:2]).argmax(axis=2)
    counts = np.zeros((6, 6))
    np.add.at(counts, (number[:, 0], number[:, 1]), 1)
    assert (np.diag(counts) == 0).all()
    others = counts[~np.eye(6, dtype=bool)]
    assert np.abs(others - 1000).max() < 4.5 * np.sqrt(1000)


def test_what_is_asked_changes_nothing_else():
    rows = np.arange(20)
    every = MqarConfig(length=24, num_pairs=6).build("train").examples(rows)
    some = MqarConfig(length=24, num_pairs=6, num_queries=2).build("train")
    np.testing.assert_array_equal(
        some.examples(rows).tokens[:, :12], every.tokens[:, :12]
    )


def test_keys_values_and_filler_are_uniform():
    config = MqarConfig(vocab_size=64, length=32, num_pairs=4, filler="random")
    batch = config.build("train").examples(np.arange(20_000))
    keys, values = batch.tokens[:, 0:8:2], batch.tokens[:, 1:8:2]
    rest = np.ones(batch.tokens.shape, bool)
    rest[:, :8] = False
    np.put_along_axis(rest, batch.target_positions, False, axis=1)
    for drawn, low, high in [
        (keys, 1, 32),
        (values, 32, 64),
        (batch.tokens[rest], 0, 64),
    ]:
        counts = np.bincount(drawn.ravel() - low, minlength=high - low)
        assert len(counts) == high - low
        expected = drawn.size / (high - low)
        assert np.abs(counts - expected).max() < 4.5 * np.sqrt(expected)
    pairs = np.bincount(((keys - 1) * 32 + values - 32).ravel(), minlength=31 * 32)
    expected = keys.size / (31 * 32)
    assert np.abs(pairs - expected).max() < 5 * np.sqrt(expected)


@pytest.mark.parametrize("config", CONFIGS)
def test_an_example_is_the_same_in_any_batch(config: MqarConfig):
    task = config.build("train")
    indices = np.array([3, 10, 0, 77, 49, 50, 10])
    batch = task.examples(indices)
    for row, index in enumerate(indices):
        alone = task.examples(np.array([index]))
        assert example(alone, 0) == example(batch, row)


def test_an_example_is_the_same_in_another_process():
    code = (
        "import hashlib, numpy as np\n"
        "from memzoo.data import MqarConfig\n"
        "task = MqarConfig(filler='random').build('train')\n"
        "b = task.examples(np.arange(90, 70, -1))\n"
        "p = [a.tobytes() for a in b[:4]]\n"
        "print(hashlib.sha256(b''.join(p)).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    batch = MqarConfig(filler="random").build("train").examples(np.arange(90, 70, -1))
    assert done.stdout.strip() == digest(batch)


def test_golden_bytes():
    """The bytes are the same on every platform. If they must change, raise
    `data_version`."""
    found = [digest(c.build("train").examples(np.arange(100))) for c in CONFIGS]
    assert [d[:16] for d in found] == GOLDEN


def test_seeds_and_splits_share_no_row():
    rows = np.arange(2_000)
    seen = [MqarConfig().build(split).examples(rows).tokens for split in SPLITS]
    seen.append(MqarConfig(seed=1).build("train").examples(rows).tokens)
    assert len(np.unique(np.concatenate(seen), axis=0)) == 8_000


def test_a_finite_training_set_is_shuffled_anew_in_every_epoch():
    config = MqarConfig(num_examples=50)
    task = config.build("train")
    assert len(task) == 50
    assert len(config.build("test")) == len(MqarConfig().build("train")) == ENDLESS
    epochs = task.examples(np.arange(150)).tokens.reshape(3, 50, 64)
    assert not np.array_equal(epochs[0], epochs[1])
    for epoch in epochs[1:]:
        np.testing.assert_array_equal(
            np.unique(epoch, axis=0), np.unique(epochs[0], axis=0)
        )
    across = task.examples(np.array([120, 3, 60]))
    np.testing.assert_array_equal(across.tokens[2], epochs[1][10])


def test_chance_is_naming_any_value_of_the_row():
    assert MqarConfig(num_pairs=8).chance == 1 / 8
    assert MqarConfig(num_pairs=(2, 4)).chance == 3 / 8


def test_fingerprint_holds_every_field():
    first = fingerprint(MqarConfig(num_pairs=(2, 4)))
    assert first["task"] == "mqar" and first["num_pairs"] == [2, 4]
    changes = {
        "vocab_size": 2048,
        "length": 128,
        "num_pairs": 3,
        "filler": "random",
        "power": 1.0,
        "seed": 1,
        "num_passes": 2,
        "num_queries": 2,
        "num_examples": 9,
    }
    assert {"task", "data_version", *changes} == set(first)
    for name, value in changes.items():
        changed = fingerprint(MqarConfig(**{"num_pairs": (2, 4), name: value}))
        assert [k for k in first if first[k] != changed[k]] == [name]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"length": 5, "num_pairs": (2, 8)},
            "length is 5; give an even number, 32 or more for these pairs",
        ),
        ({"vocab_size": 64}, "vocab_size is 64; give an even number above the length"),
        ({"vocab_size": 2**32}, r"vocab_size is 4294967296; give 2\^31 or less"),
        ({"num_pairs": 17}, r"num_pairs is 17; .* give a number in \[1, 16\]"),
        ({"num_pairs": 9, "num_passes": 3}, r"num_pairs is 9; .* in \[1, 8\]"),
        ({"num_pairs": 0}, "num_pairs is 0"),
        ({"num_pairs": ()}, "num_pairs is empty; give at least one"),
        ({"filler": "noise"}, "filler is 'noise'; choose 'blank' or 'random'"),
        ({"power": 0.0}, r"power is 0.0; give a number in \(0, 2\]"),
        ({"num_passes": 0}, "num_passes is 0; give 1 or more"),
        ({"num_queries": 0}, "num_queries is 0; give 1 or more, or None"),
        ({"length": 2, "num_pairs": 1}, "length is 2; give an even number, 4 or more"),
        ({"num_queries": 17}, r"num_queries is 17; with num_passes 1 and length 64"),
        ({"num_queries": 8, "num_pairs": 4}, r"num_pairs is 4; .* in \[8, 24\]"),
        ({"num_queries": 8, "num_pairs": 25}, r"num_pairs is 25; .* in \[8, 24\]"),
        ({"num_examples": 0}, "num_examples is 0; give a number in"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict, message: str):
    with pytest.raises(ValueError, match=message) as refusal:
        config = MqarConfig()
        for name, value in fields.items():  # past the type checker of the tests
            object.__setattr__(config, name, value)
        config.__post_init__()
    assert "\n" not in str(refusal.value)


GOLDEN = [
    "63f20c2df8080844",
    "26be389b1c80cc4d",
    "8d8e09bc0ffdd196",
    "ca63944e98170b77",
    "0ef32d0955b28d41",
    "3338f020ea7f6064",
]
