"""A sweep with trainings or readings that are not finite."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from memzoo.errors import NonFiniteError
from memzoo.evals.recall_config import RecallConfig
from memzoo.evals.sweep import recall
from memzoo.evals.tasks.needle import NeedleRecall
from memzoo.train.loop import TrainResult


@pytest.fixture
def needles(tmp_path):
    """One training on needles, read at a trained and at a longer length."""
    return RecallConfig(
        task=NeedleRecall(
            length=32,
            lengths=(32, 48),
            depths=(0.0, 1.0),
            length_examples=4,
            vocab_size=32,
        ),
        layers=("attention",),
        learning_rates=(1e-2,),
        seeds=(0,),
        width=(8,),
        output=tmp_path,
    )


def test_a_sweep_of_which_every_training_diverges_is_reported(needles):
    def train(*args, **kwargs):
        raise NonFiniteError("the loss is not finite")

    page = recall(needles, progress=False, train=train, command=["x"]).page
    assert "attention" in page.read_text()


def test_a_model_that_diverges_on_long_rows_finds_nothing_there(needles, bigram):
    class Short(type(bigram(32))):
        """A model that is not finite beyond 40 tokens."""

        def hidden(self, tokens, state, info=None):
            hidden, state = super().hidden(tokens, state, info)
            return hidden + (np.nan if tokens.shape[1] > 40 else 0.0), state

    experiment = needles.experiment(needles.jobs()[0])

    def train(config, directory, **options):
        directory.mkdir(parents=True)
        own = {"setting": {"length": 32}, "metric": "accuracy", "value": 0.5}
        evaluation = {"step": 20, "accuracy": 0.5, "loss": 1.0, "rows": [own]}
        return TrainResult(step=20, status="done", evaluation=evaluation)

    def load(directory):
        model = Short(np.eye(32, dtype=np.float32))
        return SimpleNamespace(config=experiment, model=model, step=20)

    recall(needles, progress=False, train=train, load=load, command=["x"])
    place = needles.directory / needles.jobs()[0].place
    rows = json.loads((place / "outcome.json").read_text())["rows"]
    found = {(r["setting"]["length"], r["metric"]): r["value"] for r in rows}
    assert (32, "diverged") not in found and found[48, "diverged"] == 1.0
    assert found[48, "accuracy"] == 0.0 and found[32, "loss"] > 0
    settings = [r["setting"] for r in rows if r["metric"] == "accuracy"]
    assert len(settings) == 1 + 2 * 2
