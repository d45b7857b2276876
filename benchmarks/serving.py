"""The loop of a side: one JSON object a line in, one a line out.

Runs in interpreters that have only numpy and a peer, so it imports nothing else.
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

# On every side sums of logarithms of decays are not rounded.
EXACT = frozenset(["log_decay"])


class Prepared(NamedTuple):
    """A case ready to be measured.

    Attributes:
        call: one pass, done when it returns, or begun where there is a `finish`.
        results: the output and the gradients (`gradient_<input>`), by name; asked
            once, after some passes.
        finish: returns when all passes begun are done.
        peak: bytes of memory that one pass needs; None: what it adds to the resident
            memory is watched.
        release: drops the results that are held, which a pass would else replace.
    """

    call: Callable[[], None]
    results: Callable[[], Mapping[str, np.ndarray]]
    finish: Callable[[], None] = lambda: None
    peak: Callable[[], int | None] | None = None
    release: Callable[[], None] = lambda: None


Prepare = Callable[[dict[str, np.ndarray], dict[str, Any]], Prepared]


def serve(prepare: Prepare, versions: Callable[[], dict[str, str]]) -> None:
    """Answer requests from standard input until it ends.

    `prepare` (inputs, options: the case's fields and more) reads `inputs` and runs
    once; `run` times `repeats` passes, after one that is not timed unless `warm` is
    false; `memory` measures one pass; `results` writes `outputs`; `forget` frees what a
    case holds.
    """
    # What libraries print must not mix with the answers.
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
            # A case that could not be prepared is not held.
            cases.pop(request["name"], None)
            gc.collect()
            return {}
    raise ValueError(f"unknown command {request['command']!r}")


def _prepare(
    request: dict[str, Any], cases: dict[str, Prepared], prepare: Prepare
) -> dict[str, Any]:
    """Prepare a case and run it once; seconds of that, compilation among them."""
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
    """Seconds a pass, in processor time and by the clock."""
    if warm:
        # The caches hold what the side before left there.
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
    """Return the most bytes that the process had so far; None where not told.

    Libraries, compilation and memory that the process keeps are counted: what a user
    sees.
    """
    try:
        return _status_bytes("VmHWM")
    except OSError:
        return None


def _peak_growth(call: Callable[[], None]) -> int | None:
    """Bytes by which one pass raises the resident memory; None where not told."""
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
    """Linux alone lets a process reset its high-water mark."""
    with open("/proc/self/clear_refs", "w") as marks:
        marks.write("5")


def _status_bytes(field: str) -> int:
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
