"""A sweep with damaged files, and a training loop that only counts."""

import dataclasses
import json

import numpy as np
import pytest

from memzoo.data.task import kinds_of
from memzoo.errors import MemzooError
from memzoo.evals.recall_config import RecallConfig
from memzoo.evals.sweep import recall
from memzoo.evals.tasks.mqar import MqarRecall
from memzoo.train.loop import TrainResult


class Loop:
    """Write two evaluations, as the training loop would."""

    def __init__(self):
        self.trained = []

    def __call__(self, config, directory, **_):
        self.trained.append(str(directory))
        row = {"setting": kinds_of(config.task)[0], "metric": "accuracy", "count": 5}
        values = {10: 0.3, 20: 0.3 + config.optimizer.learning_rate}
        lines = [
            {"step": step, "accuracy": value, "rows": [row | {"value": value}]}
            for step, value in values.items()
        ]
        directory.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (directory / "evaluations.jsonl").write_text(text)
        return TrainResult(step=20, status="done", evaluation=lines[-1])


@pytest.fixture
def small(tmp_path):
    return RecallConfig(
        layers=("attention",),
        task=MqarRecall(num_pairs=(2,), length=16, vocab_size=32),
        width=(8,),
        learning_rates=(1e-2, 8e-2),
        seeds=(0,),
        steps=20,
        output=tmp_path,
    )


def go(config, loop):
    return recall(config, progress=False, train=loop, command=["memzoo", "recall"])


def flip(path, place):
    """Flip one bit of the file."""
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << place % 8
    path.write_bytes(bytes(data))


def test_no_flip_in_an_outcome_gives_other_numbers(small, capfd):
    go(small, Loop())
    wanted = (small.directory / "results.json").read_bytes()
    path = small.directory / small.jobs()[0].place / "outcome.json"
    whole = path.read_bytes()
    for place in np.linspace(0, 8 * len(whole) - 1, 9).astype(int):
        path.write_bytes(whole)
        flip(path, int(place) // 8)
        capfd.readouterr()
        loop = Loop()
        go(small, loop)
        said = capfd.readouterr().err
        # A flip that changes only white space is no damage.
        again = "is trained again, from its newest checkpoint" in said
        assert again == (loop.trained == [str(path.parent)])
        assert again or said == ""
        assert (small.directory / "results.json").read_bytes() == wanted


@pytest.mark.parametrize(
    "text", ["[]", "", "{}", "null", '[{"metric": "loss"}]', "[[]]"]
)
def test_an_outcome_without_numbers_is_trained_again(small, text, capfd):
    go(small, Loop())
    wanted = (small.directory / "results.json").read_bytes()
    places = [job.place for job in small.jobs()]
    (small.directory / places[1] / "outcome.json").write_text(text)
    loop = Loop()
    go(small, loop)
    assert loop.trained == [str(small.directory / places[1])]
    assert capfd.readouterr().err.count("outcome.json is damaged: ") == 1
    assert (small.directory / "results.json").read_bytes() == wanted


def test_curves_and_steps_are_those_of_the_outcome(small):
    """A later change of evaluations.jsonl changes no number and no curve."""
    go(small, Loop())
    files = [small.directory / name for name in ("results.json", "report.html")]
    before = [path.read_bytes() for path in files]
    for job in small.jobs():
        (small.directory / job.place / "evaluations.jsonl").write_text("[]")
    go(small, Loop())
    assert [path.read_bytes() for path in files] == before


def test_a_damaged_record_is_written_anew(small, capfd):
    go(small, Loop())
    path = small.directory / "sweep.json"
    whole = path.read_bytes()
    for text in (b"{", b"[]", whole.replace(b"20", b"21"), b""):
        path.write_bytes(text)
        loop = Loop()
        go(small, loop)
        assert loop.trained == [] and path.read_bytes() == whole
        said = capfd.readouterr().err
        assert said.count("sweep.json is damaged: ") == said.count("\n") == 1
    damaged = small.directory / "damaged"
    assert len(list(damaged.iterdir())) == 4
    # Every training records its own config.
    path.unlink()
    with pytest.raises(
        MemzooError,
        match=r"seed-0 is of a sweep with steps = 20, and this one has 30",
    ):
        go(dataclasses.replace(small, steps=30), Loop())
    assert not path.exists()
