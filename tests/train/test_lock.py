"""Two processes cannot train one run."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from memzoo.errors import MemzooError
from memzoo.train import lock
from memzoo.train.lock import locked
from memzoo.train.writing import SaveError

HOLD = """
import sys
from pathlib import Path
from memzoo.train.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""

pytestmark = pytest.mark.skipif(lock.fcntl is None, reason="needs fcntl")


def test_the_second_one_is_refused_until_the_first_is_killed(tmp_path):
    run_dir = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, run_dir],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        text=True,
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(
                MemzooError,
                match=rf"run is being trained by another process \(pid {holder.pid}\); "
                "wait for it or give another name",
            ) as refusal,
            locked(run_dir),
        ):
            pass
        assert refusal.value.exit_code == 2
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with locked(run_dir):
        assert (run_dir / ".lock").read_text() == str(os.getpid())
    assert not list(run_dir.iterdir())


def test_a_second_one_in_the_same_process_is_refused(tmp_path):
    with (
        locked(tmp_path),
        pytest.raises(MemzooError, match="by another process"),
        locked(tmp_path),
    ):
        pass


def test_a_run_is_locked_while_it_is_trained(small, tmp_path, quick_train):
    def on_log(line):
        with pytest.raises(MemzooError, match="is being trained"):
            quick_train(small(), tmp_path / "run")

    quick_train(small(steps=5), tmp_path / "run", on_log=on_log)
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_file_system_without_locks_goes_without(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with locked(tmp_path):
        assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="cannot write "), locked(tmp_path / "file"):
        pass
