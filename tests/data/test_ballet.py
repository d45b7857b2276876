"""Ballet in token form against its definition, in plain python."""

import hashlib

import numpy as np
import pytest

from memzoo.data.ballet import (
    ASK,
    DANCES,
    DIRECTIONS,
    BalletConfig,
    moves,
    solve,
)
from memzoo.data.batch import Batch
from memzoo.data.task import ENDLESS, SPLITS, fingerprint

CONFIGS = [
    BalletConfig(),
    BalletConfig(num_dancers=(2, 8, 4), delay=3, dance_length=3, answer="dance"),
    BalletConfig(num_dancers=8, delay=48, seed=3),
    BalletConfig(num_dancers=3, delay=0, dance_length=5),
]
NAMES = list(DANCES)


def digest(batch: Batch) -> str:
    parts = [np.asarray(array).tobytes() for array in batch[:4]]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def written_out(config: BalletConfig, dancers: list[int], names: list[str]) -> list:
    """Return the tokens before the question in plain loops."""
    tokens = []
    for dancer, name in zip(dancers, names, strict=True):
        steps = DANCES[name].split()[: config.dance_length]
        tokens += [10 + dancer, *(2 + DIRECTIONS.index(step) for step in steps)]
        tokens += [0] * config.delay
    return tokens


def test_the_first_three_moves_tell_the_13_dances_apart():
    assert moves().shape == (13, 16)
    assert len({tuple(dance[:3]) for dance in moves().tolist()}) == 13
    # Mirrored dances swap east and west; the second chevron is turned by half.
    mirror = {"N": "N", "S": "S", "E": "W", "W": "E"}
    mirror |= {"NE": "NW", "NW": "NE", "SE": "SW", "SW": "SE"}
    for one, other in (
        ("circle_cw", "circle_ccw"),
        ("plus_cw", "plus_ccw"),
        ("times_cw", "times_ccw"),
        ("diagonal_urdl", "diagonal_uldr"),
    ):
        swapped = [mirror[step] for step in DANCES[one].split()]
        assert swapped == DANCES[other].split()
    opposite = dict(zip(DIRECTIONS, DIRECTIONS[4:] + DIRECTIONS[:4], strict=True))
    turned = [opposite[step] for step in DANCES["chevron_down"].split()]
    assert turned == DANCES["chevron_up"].split()


@pytest.mark.parametrize("config", CONFIGS)
def test_every_row_follows_the_definition(config: BalletConfig):
    batch = config.build("validation").examples(np.arange(60))
    assert batch.tokens.shape == (60, config.length)
    assert batch.tokens.dtype == batch.targets.dtype == np.int32
    assert batch.target_positions is not None and batch.context is not None
    assert (batch.valid is None) == (len(config.settings) == 1)
    by_moves = {
        tuple(dance[:3]): name
        for dance, name in zip(moves().tolist(), NAMES, strict=True)
    }
    for row, tokens in enumerate(batch.tokens.tolist()):
        end = tokens.index(ASK)
        starts = [at for at, token in enumerate(tokens[:end]) if 10 <= token < 18]
        dancers = [tokens[at] - 10 for at in starts]
        names = [by_moves[tuple(tokens[at + 1 : at + 4])] for at in starts]
        count = config.settings[row % len(config.settings)]
        assert len(set(dancers)) == len(set(names)) == len(dancers) == count
        assert tokens[:end] == written_out(config, dancers, names)
        pairs = [
            (18 + NAMES.index(n), 10 + d) for n, d in zip(names, dancers, strict=True)
        ]
        if config.answer == "dance":
            pairs = [(dancer, name) for name, dancer in pairs]
        assert (tokens[end + 1], batch.targets[row, 0]) in pairs
        assert batch.context[row] == end
        assert batch.target_positions[row, 0] == end + 1
        assert not any(tokens[end + 2 :])
        if batch.valid is not None:
            assert batch.valid[row].tolist() == [
                at < end + 2 for at in range(config.length)
            ]
    np.testing.assert_array_equal(solve(batch.tokens), batch.targets[:, 0])


def test_dancers_in_another_order_give_chance():
    config = BalletConfig(num_dancers=5, delay=2)
    batch = config.build("train").examples(np.arange(8_000))
    assert np.all(solve(batch.tokens) == batch.targets[:, 0])
    tokens, starts = batch.tokens.copy(), np.arange(0, config.context_length, 19)
    rng = np.random.default_rng(0)
    tokens[:, starts] = rng.permuted(tokens[:, starts], axis=1)
    found = np.mean(solve(tokens) == batch.targets[:, 0])
    assert config.chance == 1 / 5
    assert abs(found - 1 / 5) < 4.5 * np.sqrt(0.2 * 0.8 / 8_000)


def test_draws_are_uniform():
    config = BalletConfig(num_dancers=3, delay=0, dance_length=3)
    batch = config.build("train").examples(np.arange(20_000))
    shown = batch.tokens[:, :12].reshape(-1, 3, 4)
    number = np.argmax(shown[:, :, 0] == batch.targets, axis=1)
    first = (shown[:, 0, 1:] * [100, 10, 1]).sum(axis=1)
    dances = np.unique(first, return_inverse=True)[1]
    asked = batch.tokens[:, -1] - 18
    for drawn, size in (
        (number, 3),
        (batch.targets - 10, 8),
        (shown[:, 1, 0] - 10, 8),
        (dances, 13),
        (asked, 13),
    ):
        counts = np.bincount(drawn.ravel(), minlength=size)
        assert len(counts) == size
        expected = drawn.size / size
        assert np.abs(counts - expected).max() < 4.5 * np.sqrt(expected)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_row_is_the_same_in_any_batch(config: BalletConfig):
    task = config.build("train")
    batch = task.examples(np.array([3, 10, 0, 77]))
    for row, index in enumerate([3, 10, 0, 77]):
        alone = task.examples(np.array([index]))
        np.testing.assert_array_equal(alone.tokens[0], batch.tokens[row])
        assert alone.targets[0, 0] == batch.targets[row, 0]


def test_golden_bytes():
    """The bytes are the same on every platform. If they must change, raise
    `data_version`."""
    found = [digest(c.build("train").examples(np.arange(100))) for c in CONFIGS]
    assert [d[:16] for d in found] == GOLDEN


def test_seeds_and_splits_share_no_row():
    rows = np.arange(2_000)
    config = BalletConfig(num_dancers=8, delay=0, dance_length=3)
    other = BalletConfig(num_dancers=8, delay=0, dance_length=3, seed=1)
    seen = [config.build(split).examples(rows).tokens for split in SPLITS]
    seen.append(other.build("train").examples(rows).tokens)
    assert len(np.unique(np.concatenate(seen), axis=0)) == 8_000
    assert len(config.build("train")) == ENDLESS


def test_a_longer_delay_changes_nothing_else():
    rows = np.arange(20)
    short = BalletConfig(delay=0).build("test").examples(rows)
    long = BalletConfig(delay=48).build("test").examples(rows)
    np.testing.assert_array_equal(short.targets, long.targets)
    dance = long.tokens[:, :-2].reshape(20, 4, 65)[:, :, :17]
    np.testing.assert_array_equal(short.tokens[:, :-2], dance.reshape(20, -1))


def test_settings_lengths_and_chances():
    assert BalletConfig(num_dancers=8, delay=48).context_length == 520
    mixed = BalletConfig(num_dancers=(2, 4))
    assert mixed.chance == 3 / 8 and mixed.vocab_size == 31
    assert mixed.kinds[0] == {"num_dancers": 2, "delay": 16, "length": 68}
    assert mixed.build("test").setting(3) == mixed.kinds[1]
    assert [mixed.chance_of(kind) for kind in mixed.kinds] == [1 / 2, 1 / 4]


def test_fingerprint_holds_every_field():
    first = fingerprint(BalletConfig())
    changes = {
        "num_dancers": 2,
        "delay": 1,
        "dance_length": 4,
        "answer": "dance",
        "seed": 1,
    }
    assert {"task", "data_version", *changes} == set(first)
    for name, value in changes.items():
        changed = fingerprint(BalletConfig(**{name: value}))
        assert [k for k in first if first[k] != changed[k]] == [name]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_dancers": 1}, "num_dancers is 1; give 2 to 8"),
        ({"num_dancers": (4, 9)}, "num_dancers is 9; give 2 to 8"),
        ({"num_dancers": ()}, "num_dancers is empty; give at least one number"),
        ({"delay": -1}, "delay is -1; give 0 to 124999982"),
        ({"delay": 10**9}, "delay is 1000000000; give 0 to 124999982"),
        ({"dance_length": 2}, "dance_length is 2; give 3 to 16"),
        ({"dance_length": 17}, "dance_length is 17; give 3 to 16"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict, message: str):
    with pytest.raises(ValueError, match=f"^{message}$") as refusal:
        BalletConfig(**fields)
    assert "\n" not in str(refusal.value)


def test_an_unknown_answer_is_refused():
    config = BalletConfig()
    # The tests' type checks would catch it first; users have none.
    object.__setattr__(config, "answer", "name")
    with pytest.raises(
        ValueError, match="answer is 'name'; choose 'dancer' or 'dance'"
    ):
        config.__post_init__()


def test_rows_that_do_not_show_what_they_ask_for_are_refused():
    tokens = BalletConfig().build("test").examples(np.arange(2)).tokens.copy()
    danced = tokens[1, :-2].reshape(4, 33)[:, 1:17].tolist()
    absent = 18 + next(n for n, d in enumerate(moves().tolist()) if d not in danced)
    tokens[1, -1] = absent
    with pytest.raises(ValueError, match=f"row 1 asks for token {absent}, which it"):
        solve(tokens)


GOLDEN = [
    "676c5e1357aa5a71",
    "eb334f531324a230",
    "fe7307a1f19724ea",
    "f43c8bea6d6d5934",
]
