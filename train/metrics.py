"""Reports of a run: metrics.jsonl, evaluations.jsonl, TensorBoard events, timings."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..configs.reading import readable
from .events import EventFile
from .manifest import DamagedError
from .sealed import seal, unseal
from .writing import explained, replace_text

METRICS = "metrics.jsonl"
EVALUATIONS = "evaluations.jsonl"
TIMINGS = "timings.json"
EVENTS = "tensorboard"


Report = Callable[[str], None]


class RunLog:
    """Reports of one run, as if it had never been interrupted.

    Args:
        run_dir: the run's directory.
        restored_step: lines of later steps are dropped.
        writes: false for all processes but one; then nothing is written.
        report: called with a line for every file that is partly unreadable.

    Raises:
        SaveError: a file cannot be written; the methods raise it too.
    """

    def __init__(
        self,
        run_dir: Path,
        restored_step: int,
        *,
        writes: bool,
        report: Report | None = None,
    ) -> None:
        self._run_dir = run_dir
        self._report = report if writes else None
        self._events: EventFile | None = None
        kept = {}
        for name in (METRICS, EVALUATIONS):
            with explained(run_dir / name):
                lines = read_lines(run_dir / name, report=self._report)
            kept[name] = [line for line in lines if line["step"] <= restored_step]
        evaluations = [line for line in kept[EVALUATIONS] if _is_evaluation(line)]
        self.last_evaluation = evaluations[-1] if evaluations else None
        if not writes:
            return
        for name, lines in kept.items():
            text = "".join(_text(name, line) for line in lines)
            replace_text(run_dir / name, text)
        with explained(run_dir / TIMINGS):
            _read_sessions(run_dir / TIMINGS, None)  # rather now than at the end
        with explained(run_dir / EVENTS):
            self._events = EventFile(run_dir / EVENTS, restored_step)

    def step(self, line: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        self._write(METRICS, line, "train")

    def evaluation(self, line: Mapping[str, Any]) -> None:
        """Append a line to evaluations.jsonl."""
        self._write(EVALUATIONS, line, "validation")

    def timings(self, session: Mapping[str, Any]) -> None:
        """Append an entry to timings.json, for numbers that another run would not
        reproduce."""
        if self._events is not None:
            add_timings(self._run_dir, session, report=self._report)

    def _write(self, name: str, line: Mapping[str, Any], group: str) -> None:
        if self._events is None:
            return
        path = self._run_dir / name
        with explained(path):
            with path.open("a", encoding="utf-8") as file:
                file.write(_text(name, line))
            means = {
                f"{group}/{key}": float(np.mean(value))
                for key, value in line.items()
                if key != "step" and _is_numeric(value)
            }
            self._events.scalars(line["step"], means)


def add_timings(
    run_dir: Path, session: Mapping[str, Any], *, report: Report | None = None
) -> None:
    """Append an entry to the run's timings.json.

    Raises:
        SaveError: it cannot be written.
    """
    path = run_dir / TIMINGS
    with explained(path):
        sessions = _read_sessions(path, report)
    replace_text(path, json.dumps([*sessions, dict(session)], indent=2) + "\n")


def read_lines(path: Path, *, report: Report | None = None) -> list[dict[str, Any]]:
    """Return the objects with a step in a .jsonl file, without their checksums.

    A line that does not match its checksum is skipped.

    Args:
        path: path of the file, which may be missing.
        report: called with one line if lines are skipped.

    Raises:
        ReadError: the file cannot be read.
    """
    with readable(path):
        if not path.exists():
            return []
        content = path.read_bytes()
    lines, skipped = [], []
    for number, text in enumerate(content.splitlines(), start=1):
        try:
            line = unseal(_parse(text), required=False)
        except DamagedError:
            line = {}
        if type(line.get("step")) is int:
            lines.append(line)
        elif text.strip():
            skipped.append(number)
    if skipped and report is not None:
        report(
            f"{path}: skipped {len(skipped)} of its lines that are not JSON objects "
            f"with a step, or damaged (the first is line {skipped[0]})"
        )
    return lines


def _text(name: str, line: Mapping[str, Any]) -> str:
    """Return a line of the file; evaluations, which steer the run, get a checksum.

    JSON has no NaN or infinity: they become null.
    """
    values = _finite(line)
    return json.dumps(seal(values) if name == EVALUATIONS else values) + "\n"


def _read_sessions(path: Path, report: Report | None) -> list[dict[str, Any]]:
    """Return the entries of timings.json."""
    with readable(path):
        if not path.exists():
            return []
        found = _parse(path.read_bytes())
    entries = found if isinstance(found, list) else []
    sessions = [entry for entry in entries if isinstance(entry, dict)]
    if report is not None and (entries is not found or len(sessions) < len(entries)):
        report(
            f"{path}: kept {len(sessions)} earlier entries; the rest is not a JSON "
            "list of objects and was dropped"
        )
    return sessions


def _parse(text: bytes) -> Any:
    """Return the JSON value; `None` if the text is not JSON."""
    try:
        return json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        return None


def _finite(value: Any) -> Any:
    """Return the value with None for every number in it that is not finite."""
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_evaluation(line: Mapping[str, Any]) -> bool:
    """Return whether the line has the numbers that steer the run."""
    numbers = (line.get("accuracy"), line.get("loss"))
    return isinstance(line.get("rows"), list) and all(
        isinstance(number, int | float) and math.isfinite(number) for number in numbers
    )


def _is_numeric(value: Any) -> bool:
    """Return whether the value is a number, or nested lists of numbers."""
    if isinstance(value, list):
        return bool(value) and all(_is_numeric(item) for item in value)
    return isinstance(value, int | float)
