"""Files from which a sweep continues."""

import dataclasses
import json

import pytest

from memzoo.configs.reading import ReadError
from memzoo.errors import CheckpointError, MemzooError
from memzoo.evals import sweep_files
from memzoo.evals.recall_config import RecallConfig
from memzoo.evals.results import result_rows
from memzoo.evals.sweep_files import SweepFiles
from memzoo.evals.tasks.mqar import MqarRecall
from memzoo.train.manifest import DamagedError
from memzoo.train.sealed import read_json, seal, unseal

LINES = [{"step": 10, "accuracy": 0.25, "rows": []}, {"step": 20, "accuracy": 0.5}]


@pytest.fixture
def small(tmp_path):
    return RecallConfig(
        layers=("attention", "delta_net"),
        task=MqarRecall(num_pairs=(2,), length=16, vocab_size=32),
        width=(8,),
        learning_rates=(1e-2,),
        seeds=(0,),
        steps=40,
        evaluate_every=10,
        output=tmp_path,
    )


@pytest.fixture
def said():
    return []


def rows_of(config, job, value=0.5):
    measured = [{"setting": {"num_pairs": 2}, "metric": "accuracy", "value": value}]
    return result_rows(config.experiment(job), measured, 20)


def begun(config, said):
    files = SweepFiles(config, said.append)
    files.begin(["memzoo", "recall"], files.missing())
    return files


def done(config, said):
    """A sweep whose trainings have all ended."""
    files = begun(config, said)
    for job in config.jobs():
        files.save_outcome(job.place, rows_of(config, job), LINES)
    return files


def test_a_new_sweep_misses_everything_and_writes_nothing(small, said):
    assert SweepFiles(small, said.append).missing() == small.jobs()
    assert not small.directory.exists() and said == []


def test_what_a_sweep_is_lies_under_a_checksum(small, said):
    begun(small, said)
    record = unseal(read_json(small.directory / "sweep.json"))
    assert record["command"] == ["memzoo", "recall"] and record["schema"] == 3
    assert record["config"] == json.loads(json.dumps(small.meaning()))


def test_an_outcome_comes_back(small, said):
    files = done(small, said)
    job = small.jobs()[0]
    outcome = files.outcome(job.place)
    assert outcome.rows == rows_of(small, job) and outcome.evaluations == LINES
    assert files.missing() == [] and said == []
    assert list(files.outcomes()) == [job.place for job in small.jobs()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"place": "delta_net/x/y"}, "it belongs to delta_net/x/y"),
        ({"schema": 2}, "it has schema 2, not 3"),
        ({"rows": []}, "it is not a list of results"),
        ({"rows": [{"metric": "loss"}]}, "row 0 has no layer"),
    ],
)
def test_another_record_is_no_outcome(small, said, change, message):
    files = done(small, said)
    place = small.jobs()[0].place
    path = small.directory / place / "outcome.json"
    record = unseal(read_json(path))
    path.write_text(json.dumps(seal(record | change)))
    with pytest.raises(DamagedError, match=message):
        files.outcome(place)
    path.write_text(json.dumps(record | change))
    with pytest.raises(DamagedError, match="it has no checksum"):
        files.outcome(place)
    # The sweep's record is not an outcome either.
    path.write_bytes((small.directory / "sweep.json").read_bytes())
    with pytest.raises(DamagedError, match="it belongs to None"):
        files.outcome(place)
    assert files.missing() == small.jobs()[:1] and len(said) == 1


def test_a_training_of_another_sweep_is_refused(small, said):
    other = dataclasses.replace(small, steps=50, name="other")
    done(other, said)
    begun(small, said)
    for job in small.jobs():
        place = small.directory / job.place
        place.parent.mkdir(parents=True)
        (other.directory / job.place).rename(place)
    with pytest.raises(MemzooError, match=r"is of a sweep with steps = 50, and this"):
        SweepFiles(small, said.append).missing()


def test_other_layers_that_are_damaged_are_left_out(small, said):
    done(small, said)
    path = small.directory / small.jobs()[1].place / "outcome.json"
    path.write_text("[]")
    first = dataclasses.replace(small, layers=("attention",))
    found = SweepFiles(first, said.append).outcomes()
    assert list(found) == [first.jobs()[0].place]
    assert said == [f"{path} is left out: it is not a JSON object"]
    with pytest.raises(
        CheckpointError, match=r"delta_net.* is damaged or missing .*again"
    ):
        SweepFiles(small, said.append).outcomes()


def test_a_sweep_of_another_version_is_refused(small, said):
    done(small, said)
    path = small.directory / "sweep.json"
    path.write_text(json.dumps(seal(unseal(read_json(path)) | {"schema": 2})))
    with pytest.raises(MemzooError, match="has schema 2, and this memzoo writes 3; gi"):
        SweepFiles(small, said.append).missing()


@pytest.mark.parametrize("file", ["sweep.json", "outcome.json"])
def test_what_cannot_be_read_is_not_trained_again(small, said, file):
    done(small, said)
    place = small.directory
    place = place / small.jobs()[0].place if file == "outcome.json" else place
    (place / file).unlink()
    (place / file).mkdir()
    with pytest.raises(ReadError, match=rf"cannot read .*{file}: Is a directory; fix"):
        SweepFiles(small, said.append).missing()
    assert said == []


@pytest.fixture
def checkpoints(monkeypatch):
    """Steps of the checkpoints of every run; those below 0 are damaged."""
    steps = [20, -30]

    def manifest(directory, step):
        if -step in steps:
            raise DamagedError("it has no manifest")

    monkeypatch.setattr(sweep_files, "saved_steps", lambda _: sorted(map(abs, steps)))
    monkeypatch.setattr(sweep_files, "read_manifest", manifest)
    return steps


@pytest.mark.parametrize(
    ("kept", "lost"), [((10, 20), ""), ((20,), "10"), ((10,), "20"), ((), "10, 20")]
)
def test_a_training_begins_anew_where_evaluations_are_lost(
    small, said, checkpoints, kept, lost
):
    config = dataclasses.replace(small, layers=("attention",))
    (job,) = config.jobs()
    place = config.directory / job.place
    place.mkdir(parents=True)
    text = "".join(json.dumps(seal({"step": step})) + "\n" for step in kept)
    # A line that was being written when the process ended is measured again anyway.
    (place / "evaluations.jsonl").write_text(text + '{"step": 30, "ac')
    begun(config, said)
    assert (place / "evaluations.jsonl").exists() == (not lost)
    if lost:
        aside = config.directory / "damaged"
        (moved,) = aside.iterdir()
        assert (moved / "evaluations.jsonl").read_text().startswith(text)
        assert f"has lost the evaluations of steps {lost}; {job.label} is tr" in said[0]
        assert str(moved) in said[0]
    assert len(said) == bool(lost)


def test_a_changed_evaluation_is_a_lost_one(small, said, checkpoints):
    config = dataclasses.replace(small, layers=("attention",))
    place = config.directory / config.jobs()[0].place
    place.mkdir(parents=True)
    lines = [json.dumps(seal({"step": s, "accuracy": 0.5})) for s in (10, 20)]
    lines[0] = lines[0].replace("0.5", "0.7")
    (place / "evaluations.jsonl").write_text("\n".join(lines) + "\n")
    begun(config, said)
    assert "has lost the evaluations of steps 10; " in said[0] and not place.exists()
