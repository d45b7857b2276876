"""Contexts marked as prefixes, and their masks."""

import dataclasses

import numpy as np
import pytest

from memzoo.data import TASKS
from memzoo.data.batch import Batch
from memzoo.data.mqar import MqarConfig
from memzoo.data.needle import NeedleConfig
from memzoo.data.prefix import PrefixConfig, Prefixed
from memzoo.data.repeat import RepeatConfig
from memzoo.data.set_disjointness import SetDisjointnessConfig
from memzoo.data.task import fingerprint
from memzoo.data.text import TextConfig

SETS = SetDisjointnessConfig(sizes=((3, 5), (6, 1)), vocab_size=40)


class Rows:
    """A task of two rows of next tokens: packed documents, padded at the end."""

    reset = np.array([[1, 0, 0, 0, 1, 0, 0, 1], [1, 0, 0, 0, 0, 0, 0, 0]], bool)
    valid = np.array([[1] * 8, [1] * 7 + [0]], bool)

    def __len__(self):
        return 2

    def examples(self, indices):
        tokens = np.arange(10, 26, dtype=np.int32).reshape(2, 8)[indices % 2]
        following = np.array([[1, 1, 1, 0, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 0, 0]])
        return Batch(
            tokens=tokens,
            targets=tokens + 1,
            target_positions=None,
            target_weights=following[indices % 2].astype(np.float32),
            reset=self.reset[indices % 2],
            valid=self.valid[indices % 2],
        )


def over_rows(split, **options):
    """Return the two rows under a prefix config that is meant for text."""
    config = PrefixConfig(task=TextConfig(length=8), share=0.5, **options)
    task = object.__new__(Prefixed)
    task.config, task._task, task._split = config, Rows(), 0
    task._masks = split == "train" and config.mask_share > 0
    return config, task


def test_a_share_of_every_document_is_its_prefix():
    """The first row has documents of 4, 3 and 1 tokens, the second one of 7."""
    _, task = over_rows("validation")
    batch = task.examples(np.arange(2))
    np.testing.assert_array_equal(
        batch.prefix, [[1, 1, 0, 0, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]]
    )
    # The last token of a prefix has a next-token target; the others do not.
    np.testing.assert_array_equal(
        batch.target_weights, [[0, 1, 1, 0, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1, 0, 0]]
    )
    np.testing.assert_array_equal(batch.tokens, Rows().examples(np.arange(2)).tokens)


def test_masks_hide_what_they_ask_for():
    config, task = over_rows("train", mask_share=0.5)
    plain = over_rows("validation")[1].examples(np.arange(400) % 2)
    batch = task.examples(np.arange(400))
    masked = batch.tokens == config.mask_token
    inside = np.tile([[1, 0, 0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0, 0]], (200, 1))
    assert not np.any(masked & (inside == 0))
    assert 0.4 < masked.sum() / inside.sum() < 0.6
    np.testing.assert_array_equal(batch.targets[masked], plain.tokens[masked])
    np.testing.assert_array_equal(batch.tokens[~masked], plain.tokens[~masked])
    np.testing.assert_array_equal(batch.targets[~masked], plain.targets[~masked])
    np.testing.assert_array_equal(batch.target_weights, plain.target_weights + masked)


def test_some_rows_may_keep_their_prefixes_whole():
    config, task = over_rows("train", mask_share=0.5, mask_rows=0.25)
    every = over_rows("train", mask_share=0.5)[1].examples(np.arange(400) % 400)
    some = task.examples(np.arange(400))
    masked, before = (b.tokens == config.mask_token for b in (some, every))
    chosen = masked.any(axis=1)
    np.testing.assert_array_equal(masked[chosen], before[chosen])
    assert 0.2 < chosen.sum() / before.any(axis=1).sum() < 0.3
    plain = over_rows("validation")[1].examples(np.arange(400) % 2)
    kept = ~chosen
    np.testing.assert_array_equal(some.tokens[kept], plain.tokens[kept])
    np.testing.assert_array_equal(some.target_weights[kept], plain.target_weights[kept])
    # The same on every platform. If they must change, raise `data_version`.
    assert np.flatnonzero(chosen)[:4].tolist() == [0, 5, 19, 25]
    # Masked rows do not depend on the number of rows in the call.
    np.testing.assert_array_equal(
        task.examples(np.array([7])).tokens[0], some.tokens[7]
    )


@pytest.mark.parametrize("mask_share", [0.0, 0.15])
def test_the_context_of_a_recall_task_is_its_prefix(mask_share):
    config = PrefixConfig(task=SETS, mask_share=mask_share)
    plain = SETS.build("train").examples(np.arange(300))
    batch = config.build("train").examples(np.arange(300))
    place = np.arange(SETS.length)
    np.testing.assert_array_equal(batch.prefix, place < plain.context[:, None])
    masked = batch.tokens == config.mask_token
    np.testing.assert_array_equal(np.where(masked, plain.tokens, batch.tokens),
                                  plain.tokens)  # fmt: skip
    if not mask_share:
        assert not masked.any()
        np.testing.assert_array_equal(batch.target_weights, plain.target_weights)
        np.testing.assert_array_equal(batch.target_positions, plain.target_positions)
        return
    share = masked.sum() / (plain.context - 1).sum()
    assert abs(share - mask_share) < 0.03
    # One target for each row's question, and one for each mask.
    assert batch.target_positions is None
    asked = batch.target_weights > 0
    rows, places = np.nonzero(asked & ~masked)
    np.testing.assert_array_equal(rows, np.arange(300))
    np.testing.assert_array_equal(places, plain.target_positions[:, 0])
    np.testing.assert_array_equal(batch.targets[rows, places], plain.targets[:, 0])
    np.testing.assert_array_equal(batch.targets[masked], plain.tokens[masked])
    assert np.all(asked[masked])


def test_masks_change_from_epoch_to_epoch_and_with_the_seed():
    config = PrefixConfig(task=MqarConfig(num_examples=5), mask_share=0.5)
    task = config.build("train")
    token = config.mask_token
    first, second = (
        task.examples(np.arange(5) + 5 * e).tokens == token for e in (0, 1)
    )
    assert not np.array_equal(np.sort(first, axis=0), np.sort(second, axis=0))
    np.testing.assert_array_equal(
        task.examples(np.array([3])).tokens[0], task.examples(np.arange(5)).tokens[3]
    )
    other = dataclasses.replace(config, seed=1).build("train")
    assert not np.array_equal(other.examples(np.arange(5)).tokens == token, first)


def test_a_haystack_is_a_prefix():
    config = PrefixConfig(task=NeedleConfig(length=64), mask_share=0)
    batch = config.build("train").examples(np.arange(3))
    np.testing.assert_array_equal(batch.prefix.sum(axis=1), 64 - 7 - 2)
    assert np.all(batch.target_weights == 1)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_nothing_is_masked_outside_training(split):
    config = PrefixConfig(task=SETS)
    batch = config.build(split).examples(np.arange(20))
    assert batch.tokens.max() < config.mask_token
    np.testing.assert_array_equal(
        batch.tokens, SETS.build(split).examples(np.arange(20)).tokens
    )
    assert batch.prefix.any()


def test_real_text_has_a_prefix_in_every_document():
    config = PrefixConfig(task=TextConfig(length=64, max_bytes=20_000), share=0.5)
    batch = config.build("train").examples(np.arange(8))
    assert batch.prefix.shape == batch.tokens.shape == (8, 64)
    assert 0.3 < batch.prefix.mean() < 0.55
    assert batch.tokens.max() == config.mask_token == 257
    assert (config.vocab_size, config.chance) == (258, None)


def test_what_it_says_of_itself():
    config = PrefixConfig(task=SETS)
    assert config.kinds == SETS.kinds
    assert (config.length, config.chance) == (SETS.length, SETS.chance)
    assert len(config.build("train")) == len(SETS.build("train"))
    assert PrefixConfig(task=SETS, mask_share=0).vocab_size == 40
    assert config.vocab_size == 41
    found = fingerprint(config)
    assert found["task"] == "prefix"
    assert found["task.task"] == "set_disjointness"
    # The weights of targets change no byte.
    same = fingerprint(dataclasses.replace(config, mask_weight=1.0, loss="paper"))
    assert found == same
    other = fingerprint(dataclasses.replace(config, mask_share=0.5))
    assert [name for name in found if found[name] != other[name]] == ["mask_share"]
    assert TASKS["prefix"] is PrefixConfig
    assert config.repeated(2, True).label == "set_disjointness with prefix"


def test_a_repeated_context_can_be_a_prefix():
    config = PrefixConfig(task=SETS, mask_share=0).repeated(2, True)
    assert config == PrefixConfig(task=RepeatConfig(task=SETS), mask_share=0)
    batch = config.build("train").examples(np.arange(4))
    plain = SETS.build("train").examples(np.arange(4))
    last = plain.context + SETS.length
    assert batch.prefix.shape == (4, 2 * SETS.length)
    for row in range(4):
        real = batch.valid[row, : last[row]]
        np.testing.assert_array_equal(batch.prefix[row, : last[row]], real)
        assert not batch.prefix[row, last[row] :].any()
    assert config.repeated(1, True) == PrefixConfig(task=SETS, mask_share=0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task": PrefixConfig()}, "task is a prefix task already; set its fields"),
        ({"share": 1.0}, "share is 1.0; give a number between 0 and 1"),
        ({"task": TextConfig()}, "task text does not define its context; set sh"),
        ({"mask_share": 1.0}, r"mask_share is 1.0; give a number in \[0, 1\)"),
        (
            {"mask_rows": 1.0},
            "mask_rows is 1.0; give a number between 0 and 1, or None",
        ),
        ({"mask_rows": 0.5, "mask_share": 0}, "mask_rows is 0.5, but mask_share is 0"),
        ({"mask_weight": -1.0}, "mask_weight is -1.0; give 0 or more"),
        ({"loss": "sum"}, "loss is 'sum'; choose 'code' or 'paper'"),
    ],
)
def test_what_does_not_fit_is_refused(fields, message):
    config = PrefixConfig()
    for name, value in fields.items():  # past the type checker of the tests
        object.__setattr__(config, name, value)
    with pytest.raises(ValueError, match=message):
        config.__post_init__()


def test_rows_without_a_context_are_refused():
    _, task = over_rows("validation")
    object.__setattr__(task.config, "share", None)
    with pytest.raises(ValueError, match="the rows have no context; set share"):
        task.examples(np.arange(2))
