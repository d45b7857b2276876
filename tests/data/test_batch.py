"""The batch: the model accepts what every task returns."""

import inspect

import numpy as np
import pytest

from memzoo.data import TASKS
from memzoo.data.batch import Batch
from memzoo.data.mqar import MqarConfig
from memzoo.data.text import TextConfig
from memzoo.models.interface import SequenceInfo
from memzoo.models.language_model import LanguageModel


def test_the_fields_are_arguments_of_the_loss_or_of_the_sequence():
    loss = set(inspect.signature(LanguageModel.loss_sums).parameters)
    for_transforms = {"context"}
    assert set(Batch._fields) - for_transforms <= loss | set(SequenceInfo._fields)


def test_a_batch_says_nothing_about_documents_unless_told():
    batch = Batch(*(np.zeros((1, 2), np.int32),) * 2, None, np.ones((1, 2), np.float32))
    assert batch.reset is None and batch.valid is None


@pytest.mark.parametrize(
    "config", [MqarConfig(), TextConfig(length=32, max_bytes=200_000)]
)
def test_every_task_keeps_to_it(config):
    assert type(config) in TASKS.values()
    batch = config.build("train").examples(np.arange(3))
    rows, targets = batch.targets.shape
    assert batch.tokens.shape == (3, config.length) and rows == 3
    assert batch.tokens.dtype == batch.targets.dtype == np.int32
    assert batch.target_weights.shape == (3, targets)
    assert batch.target_weights.dtype == np.float32
    if batch.target_positions is None:
        assert targets == config.length
    else:
        assert batch.target_positions.max() < config.length
    for mask in (batch.reset, batch.valid):
        assert mask is None or (mask.shape == batch.tokens.shape and mask.dtype == bool)
    assert batch.tokens.min() >= 0 and batch.tokens.max() < config.vocab_size
