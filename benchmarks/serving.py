"""Request loop of a side: one JSON object per line in, one per line out.

It runs in interpreters that have only numpy and a peer, so it imports nothing else.
"""

import ctypes
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

# Inputs that stay float32 on every side, since rounded log decays would add up.
EXACT = frozenset(["log_decay"])


class Prepared(NamedTuple):
    """Case ready for measurement.

    Attributes:
        call: runs one pass; with a `finish`, it only starts the pass.
        results: returns the output and the gradients (`gradient_<input>`) by name;
            called once, after some passes.
        finish: waits for all started passes.
        peak: returns the bytes of memory that one pass needs; None: measure the growth
            of the resident memory.
        release: frees the stored results of the last pass.
    """

    call: Callable[[], None]
    results: Callable[[], Mapping[str, np.ndarray]]
    finish: Callable[[], None] = lambda: None
    peak: Callable[[], int | None] | None = None
    release: Callable[[], None] = lambda: None


Prepare = Callable[[dict[str, np.ndarray], dict[str, Any]], Prepared]


def serve(prepare: Prepare, versions: Callable[[], dict[str, str]]) -> None:
    """Answer requests from standard input until it ends.

    The requests:

    - `versions` returns the versions of the libraries;
    - `prepare` loads the file `inputs` and runs one pass; `options` are the case's
      fields and more;
    - `run` times `repeats` passes, after an untimed one unless `warm` is false;
    - `memory` measures one pass;
    - `results` writes the file `outputs`;
    - `forget` frees a case.
    """
    # Keep the output of libraries apart from the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    cases: dict[str, Prepared] = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = _answer(request, cases, prepare, versions)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


def _answer(
    request: dict[str, Any],
    cases: dict[str, Prepared],
    prepare: Prepare,
    versions: Callable[[], dict[str, str]],
) -> dict[str, Any]:
    match request["command"]:
        case "versions":
            return versions()
        case "prepare":
            return _prepare(request, cases, prepare)
        case "run":
            warm = request.get("warm", True)
            return _run(cases[request["name"]], request["repeats"], warm)
        case "results":
            found: dict[str, Any] = dict(cases[request["name"]].results())
            np.savez(request["outputs"], **found)
            return {}
        case "memory":
            case = cases[request["name"]]
            case.release()
            peak = case.peak() if case.peak else _peak_growth(case.call)
            return {"peak_bytes": peak}
        case "forget":
            # A case that failed to prepare is missing.
            cases.pop(request["name"], None)
            gc.collect()
            return {}
    raise ValueError(f"unknown command {request['command']!r}")


def _prepare(
    request: dict[str, Any], cases: dict[str, Prepared], prepare: Prepare
) -> dict[str, Any]:
    """Prepare a case, run it once and return the seconds, compilation included."""
    with np.load(request["inputs"]) as stored:
        arrays = dict(stored)
    begin = time.perf_counter()
    prepared = prepare(arrays, request["options"])
    prepared.call()
    prepared.finish()
    seconds = time.perf_counter() - begin
    cases[request["name"]] = prepared
    return {"first_seconds": seconds}


def _run(case: Prepared, repeats: int, warm: bool) -> dict[str, float]:
    """Return seconds per pass, in processor time and in wall time."""
    if warm:
        # Replace the other side's data in the processor's caches.
        case.call()
        case.finish()
    gc.collect()
    gc.disable()
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        case.call()
    case.finish()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    gc.enable()
    return {"cpu_seconds": cpu / repeats, "wall_seconds": wall / repeats}


def resident_peak() -> int | None:
    """Return the peak resident bytes of the process; None if not reported.

    As a user sees it, this includes libraries, compilation and unreturned memory.
    """
    try:
        return _status_bytes("VmHWM")
    except OSError:
        return None


def _peak_growth(call: Callable[[], None]) -> int | None:
    """Return the bytes that one pass adds to resident memory; None if not reported."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        before = _status_bytes("VmRSS")
        _reset_high_water()
        call()
        return max(0, _status_bytes("VmHWM") - before)
    except (AttributeError, OSError):
        return None


def _reset_high_water() -> None:
    """Reset the high-water mark of the memory, which only Linux allows."""
    with open("/proc/self/clear_refs", "w") as marks:
        marks.write("5")


def _status_bytes(field: str) -> int:
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
