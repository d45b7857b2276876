"""State tracking against products of permutation matrices."""

import hashlib

import numpy as np
import pytest

from memzoo.data.state_tracking import StateTrackingConfig, elements, product_table
from memzoo.data.task import ENDLESS, at_length, fingerprint


def digest(batch) -> str:
    return hashlib.sha256(batch.tokens.tobytes() + batch.targets.tobytes()).hexdigest()


def test_parity_is_the_sum_modulo_2():
    batch = StateTrackingConfig(length=50).build("validation").examples(np.arange(40))
    np.testing.assert_array_equal(batch.targets, np.cumsum(batch.tokens, axis=1) % 2)


@pytest.mark.parametrize(("group", "size"), [("S3", 6), ("S4", 24), ("S5", 120)])
def test_targets_are_products_of_permutation_matrices(group, size):
    config = StateTrackingConfig(group=group, length=9)
    assert config.vocab_size == size and config.chance == 1 / size
    matrices = [np.eye(len(element))[list(element)] for element in elements(group)]
    batch = config.build("train").examples(np.arange(10))
    for tokens, targets in zip(batch.tokens, batch.targets, strict=True):
        state = np.eye(len(matrices[0]))
        for token, target in zip(tokens, targets, strict=True):
            # Row i of a matrix holds a 1 where object i goes: objects are row vectors.
            state = state @ matrices[token]
            np.testing.assert_array_equal(state, matrices[target])


def test_the_order_of_s3_matters():
    table = product_table("S3")
    assert np.any(table != table.T)
    np.testing.assert_array_equal(table[0], np.arange(6))


def test_rows_are_a_function_of_their_number():
    config = StateTrackingConfig(group="S3", length=12, seed=3)
    task = config.build("train")
    batch = task.examples(np.array([7, 2]))
    assert batch.tokens.dtype == batch.targets.dtype == np.int32
    assert batch.target_positions is None and len(task) == ENDLESS
    np.testing.assert_array_equal(batch.target_weights, 1)
    assert digest(task.examples(np.array([2]))) == digest(
        batch._replace(tokens=batch.tokens[1:], targets=batch.targets[1:])
    )
    assert digest(batch) != digest(config.build("test").examples(np.array([7, 2])))
    assert task.setting(5) == {"length": 12}
    assert digest(task.examples(np.arange(9)))[:16] == "b8a7a6065417f16f"


def test_tokens_are_uniform():
    batch = StateTrackingConfig(group="S3").build("train").examples(np.arange(2000))
    counts = np.bincount(batch.tokens.ravel(), minlength=6)
    expected = batch.tokens.size / 6
    assert np.abs(counts - expected).max() < 4.5 * np.sqrt(expected)


def test_a_longer_task_has_another_fingerprint():
    config = StateTrackingConfig()
    longer = at_length(config, 128)
    assert longer.length == 128 and fingerprint(longer) != fingerprint(config)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"length": 0}, "length is 0; give 1 to"),
        ({"length": 10**9 + 1}, "length is 1000000001; give 1 to 1000000000"),
    ],
)
def test_senseless_configs_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        StateTrackingConfig(**fields)


def test_an_unknown_group_is_refused():
    config = StateTrackingConfig()
    # The tests' type checks would catch it first; users have none.
    object.__setattr__(config, "group", "Z60")
    with pytest.raises(ValueError, match="group is 'Z60'; choose one of parity, S3"):
        config.__post_init__()
