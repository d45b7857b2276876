"""Event files, read back record by record."""

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c

from memzoo.train.events import EventFile
from memzoo.train.metrics import RunLog


def events(directory):
    """Return the events of all files, in TensorBoard's reading order."""
    for path in sorted(directory.iterdir()):
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            body = data[12 : 12 + size]
            assert int.from_bytes(data[8:12], "little") == masked_crc32c(data[:8])
            after = data[12 + size : 16 + size]
            assert int.from_bytes(after, "little") == masked_crc32c(body)
            data = data[16 + size :]
            yield Event.FromString(body)


def scalars(directory):
    return [
        (event.step, value.tag, value.simple_value)
        for event in events(directory)
        for value in event.summary.value
    ]


def test_numbers_of_a_step(tmp_path):
    log = RunLog(tmp_path, 0, writes=True)
    log.step({"step": 5, "loss": 2.5, "metric/load": [[0.5, 1.5]]})
    log.evaluation({"step": 5, "accuracy": 0.25, "rows": [{"metric": "loss"}]})
    assert scalars(tmp_path / "tensorboard") == [
        (5, "train/loss", 2.5),
        (5, "train/metric/load", 1.0),
        (5, "validation/accuracy", 0.25),
    ]


def test_a_later_stretch_hides_what_it_does_again(tmp_path):
    EventFile(tmp_path, 0).scalars(15, {"loss": 1.0})
    EventFile(tmp_path, 10).scalars(15, {"loss": 2.0})
    starts = [
        event.step
        for event in events(tmp_path)
        if event.session_log.status == SessionLog.START
    ]
    assert starts == [1, 11]
    assert scalars(tmp_path) == [(15, "loss", 1.0), (15, "loss", 2.0)]


def test_stretches_past_the_restored_step_are_dropped(tmp_path):
    EventFile(tmp_path, 0).scalars(5, {"loss": 1.0})
    EventFile(tmp_path, 20).scalars(25, {"loss": 2.0})
    EventFile(tmp_path, 10).scalars(15, {"loss": 3.0})
    assert scalars(tmp_path) == [(5, "loss", 1.0), (15, "loss", 3.0)]


def test_files_of_others_are_not_touched(tmp_path):
    names = {
        "events.out.tfevents.1700000000",
        "events.out.tfevents.1700000000.myhost.77.0",
        "events.out.tfevents.",
        "events.out.tfevents.\u00b2.memzoo",
        "notes.txt",
    }
    for name in names:
        (tmp_path / name).write_text("of another program")
    for restored_step in (0, 10, 0):
        EventFile(tmp_path, restored_step).scalars(15, {"loss": 1.0})
    assert len(list(tmp_path.iterdir())) == len(names) + 1
    for name in names:
        assert (tmp_path / name).read_text() == "of another program"
