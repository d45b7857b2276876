"""Freed memory stays with the process."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, threading
from memzoo.train.allocator import keep_freed_memory
import numpy as np
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def touch():
    np.zeros(2**23).fill(1.0)  # 64 MiB
def several(times):
    for _ in range(times):
        touch()
def run(times):
    if sys.argv[2] == "thread":  # XLA allocates in threads of its own
        thread = threading.Thread(target=several, args=[times])
        thread.start()
        thread.join()
    else:
        several(times)
run(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
run(5)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how, where):
    return int(
        subprocess.run(
            [sys.executable, "-c", PROGRAM, how, where],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
@pytest.mark.parametrize("where", ["main", "thread"])
def test_pages_are_not_faulted_in_again(where):
    assert faults("kept", where) * 4 < faults("default", where)
