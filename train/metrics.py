"""What a run reports: metrics.jsonl, evaluations.jsonl, TensorBoard events, timings."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .events import EventFile
from .writing import explained, replace_text

METRICS = "metrics.jsonl"
EVALUATIONS = "evaluations.jsonl"
TIMINGS = "timings.json"
EVENTS = "tensorboard"


class RunLog:
    """The reports of one run, as if it had never been interrupted.

    Args:
        run_dir: the run's directory.
        restored_step: lines of later steps are dropped.
        writes: false for all processes but one; nothing is written then.

    Raises:
        SaveError: something cannot be written; so do the methods.
    """

    def __init__(self, run_dir: Path, restored_step: int, *, writes: bool) -> None:
        self._run_dir = run_dir
        self._events: EventFile | None = None
        kept = {}
        for name in (METRICS, EVALUATIONS):
            lines = read_lines(run_dir / name)
            kept[name] = [line for line in lines if line["step"] <= restored_step]
        evaluations = kept[EVALUATIONS]
        self.last_evaluation = evaluations[-1] if evaluations else None
        if not writes:
            return
        for name, lines in kept.items():
            text = "".join(json.dumps(line) + "\n" for line in lines)
            replace_text(run_dir / name, text)
        with explained(run_dir / EVENTS):
            self._events = EventFile(run_dir / EVENTS, restored_step)

    def step(self, line: Mapping[str, Any]) -> None:
        """One line more in metrics.jsonl."""
        self._write(METRICS, line, "train")

    def evaluation(self, line: Mapping[str, Any]) -> None:
        """One line more in evaluations.jsonl."""
        self._write(EVALUATIONS, line, "validation")

    def timings(self, session: Mapping[str, Any]) -> None:
        """One entry more in timings.json: what no second run would repeat."""
        if self._events is None:
            return
        path = self._run_dir / TIMINGS
        sessions = json.loads(path.read_text()) if path.exists() else []
        replace_text(path, json.dumps([*sessions, dict(session)], indent=2) + "\n")

    def _write(self, name: str, line: Mapping[str, Any], group: str) -> None:
        if self._events is None:
            return
        path = self._run_dir / name
        with explained(path):
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            means = {
                f"{group}/{key}": float(np.mean(value))
                for key, value in line.items()
                if key != "step" and _is_numeric(value)
            }
            self._events.scalars(line["step"], means)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl file, up to one that was cut off."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def _is_numeric(value: Any) -> bool:
    """A number, or nested lists of numbers."""
    if isinstance(value, list):
        return bool(value) and all(_is_numeric(item) for item in value)
    return isinstance(value, int | float)
