"""Two real processes that train one model over a local port."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from memzoo.train.checkpoint import saved_steps
from memzoo.train.runs import load_run

SCRIPT = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", 2)
from memzoo.train.distributed import join_processes
assert join_processes()
from conftest import known_evaluation, small_config
from memzoo.configs.experiment import MeshConfig
from memzoo.train.loop import train
result = train(
    small_config(steps=int(sys.argv[2]), mesh=MeshConfig(data=2, fsdp=2)),
    sys.argv[1],
    progress=False,
    evaluator=known_evaluation,
)
print(result.step, result.status)
"""


@pytest.fixture
def start(tmp_path):
    """Start two processes for a number of steps."""
    started = []

    def start(steps):
        started.clear()
        script = tmp_path / "script.py"
        script.write_text(SCRIPT)
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        paths = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.path.dirname(__file__)}
        for index in range(2):
            joining = {"MEMZOO_DISTRIBUTED": f"localhost:{port},{index},2"}
            started.append(
                subprocess.Popen(
                    [sys.executable, script, tmp_path / "run", str(steps)],
                    env=os.environ | paths | joining,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        return started

    yield start
    for process in started:
        process.kill()


def finish(processes):
    """Return the last line that each printed, after checking that all ended well."""
    printed = []
    for process in processes:
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        printed.append(output.splitlines()[-1])
    return printed


@pytest.mark.slow
def test_two_processes_train_as_one(
    unbroken, small, start, tmp_path, content, quick_train
):
    assert finish(start(20)) == ["20 done", "20 done"]
    *_, place, expected = content(unbroken)
    *_, found_place, found = content(tmp_path / "run")
    assert found_place == place
    np.testing.assert_allclose(
        [line["loss"] for line in found],
        [line["loss"] for line in expected],
        rtol=1e-4,
    )
    # One process reads what two wrote, and continues from it.
    assert load_run(tmp_path / "run").step == 20
    assert quick_train(small(), tmp_path / "run").status == "done"


@pytest.mark.slow
def test_a_signal_to_one_stops_both_at_the_same_step(start, tmp_path):
    processes = start(100_000)
    wait_for(tmp_path / "run" / "checkpoints" / "10")
    processes[1].send_signal(signal.SIGTERM)
    first, second = finish(processes)
    assert first == second and first.endswith("preempted")
    step = int(first.split()[0])
    assert saved_steps(tmp_path / "run" / "checkpoints")[-1] == step
    assert finish(start(step + 3)) == [f"{step + 3} done"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_the_other_one_names_the_process_that_was_killed(
    start, tmp_path, killed, record
):
    processes = start(100_000)
    wait_for(tmp_path / "run" / "checkpoints" / "10")
    processes[killed].kill()
    processes[killed].communicate()
    _, errors = processes[1 - killed].communicate(timeout=30)
    assert processes[1 - killed].returncode == 1
    assert errors.splitlines()[-1].startswith(
        f"memzoo: process {killed} on host {socket.gethostname()} is lost: "
    )
    # Process 0 can record nothing about an end that it has not seen.
    assert record(tmp_path / "run")["status"] == ("failed" if killed else "running")


def wait_for(path, seconds=200):
    for _ in range(seconds * 10):
        if path.is_dir():
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} did not appear")
