"""The training loop over layers, learning rates and seeds."""

import dataclasses
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from memzoo.errors import MemzooError, NonFiniteError

from ..configs.experiment import ExperimentConfig
from ..train.loop import TrainResult, train
from ..train.metrics import EVALUATIONS, read_lines
from ..train.runs import LoadedRun, load_run
from ..train.signals import stop_exit_code
from .figures import Curve
from .page import write_page
from .recall_config import Job, RecallConfig
from .recall_page import details
from .recall_task import Findings, Measured
from .report import CurveKey, curve_key, made_section, versions
from .results import RESULTS, ResultRow, measured_rows, result_rows, write_results
from .summary import is_later
from .sweep_files import SweepFiles
from .sweep_progress import Announcer, say

REPORT = "report.html"

Train = Callable[..., TrainResult]
Load = Callable[[Path], LoadedRun]


class Finished(NamedTuple):
    """Sweep whose trainings are all done."""

    page: Path
    measured: Measured
    findings: Findings


class SweepStopped(MemzooError):
    """Error for a training that was asked to stop and saved; the sweep can continue
    later."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def recall(
    config: RecallConfig,
    *,
    progress: bool = True,
    train: Train = train,
    load: Load = load_run,
    command: Sequence[str] | None = None,
    more: bool = False,
) -> Finished:
    """Run every training of the sweep; write results.json and report.html.

    Finished trainings are skipped, and interrupted ones continue from their newest
    checkpoint. A training with a damaged record is repeated, and a line reports it. A
    training whose loss is not finite counts as accuracy 0.

    Args:
        config: the sweep.
        progress: whether to show progress.
        train: the training loop.
        load: loads the model of a finished training for its readings and probes.
        command: the command to name on the page; `None`: this program's arguments.
        more: whether something runs after the sweep; a stop during the last training
            then counts too.

    Raises:
        MemzooError: the folder holds a different sweep.
        ReadError: a record exists and cannot be read.
        SweepStopped: a training was asked to stop.
    """
    command = list(sys.argv if command is None else command)
    files = SweepFiles(config, say)
    missing = files.missing()
    files.begin(command, missing)
    total = len(config.jobs())
    with Announcer(total, len(missing), config.steps, shown=progress) as announcer:
        for job in missing:
            announcer.begin(job.label)
            began = time.monotonic()
            rows, asked = _train_one(config, job, train, announcer.step, command)
            further = []
            if rows[0]["checkpoint_step"]:
                further = _read_further(config, job, load, rows)
            lines = read_lines(config.directory / job.place / EVALUATIONS)
            files.save_outcome(job.place, rows + further, lines)
            announcer.end(job.label, rows, time.monotonic() - began)
            if asked is not None and (more or job is not missing[-1]):
                raise SweepStopped(
                    f"stopped after {job.label}, which is done; start the command "
                    "again to continue",
                    stop_exit_code(asked),
                )
    return write_outcome(config, command)


def write_outcome(config: RecallConfig, command: Sequence[str]) -> Finished:
    """Write results.json and report.html from everything done in the sweep's folder."""
    measured = collect(config)
    write_results(config.directory / RESULTS, measured.rows)
    findings = config.task.findings(measured)
    made = made_section(command_text(command), versions(), details(config))
    page = write_page(
        config.directory / REPORT,
        title=config.task.title,
        finding=findings.finding,
        sections=[*findings.sections, made],
    )
    return Finished(page, measured, findings)


def collect(config: RecallConfig) -> Measured:
    """Return rows and learning curves of everything done in the sweep's folder."""
    rows: list[ResultRow] = []
    curves: dict[CurveKey, list[Curve]] = {}
    for outcome in SweepFiles(config, say).outcomes().values():
        rows += outcome.rows
        for row in outcome.rows:
            if row["metric"] == "accuracy" and not is_later(row):
                key = curve_key(row["layer"], row["setting"])
                curve = _curve(row, outcome.evaluations)
                curves.setdefault(key, []).append(curve)
    return Measured(rows=rows, curves=curves, steps=config.steps, goal=config.stop_at)


def _train_one(
    config: RecallConfig,
    job: Job,
    train: Train,
    on_step: Callable[[dict[str, Any]], None],
    command: Sequence[str],
) -> tuple[list[ResultRow], signal.Signals | None]:
    """Run or continue one training; return its rows and the stop signal it received."""
    experiment = config.experiment(job)
    directory = config.directory / job.place
    try:
        result = train(
            experiment, directory, progress=False, on_log=on_step, command=command
        )
    except NonFiniteError as error:
        return _failed_rows(config, experiment, job), error.asked
    if result.status == "preempted":
        raise SweepStopped(
            f"stopped in {job.label}, at step {result.step} of {experiment.steps}; "
            "start the command again to continue",
            result.exit_code,
        )
    assert result.evaluation is not None
    measured = list(result.evaluation["rows"])
    lines = read_lines(directory / EVALUATIONS)
    for row in result.evaluation["rows"]:
        if row["metric"] == "accuracy":
            measured += _steps_rows(row["setting"], lines, config.stop_at)
    return _of_job(result_rows(experiment, measured, result.step), job), result.asked


def _course(
    setting: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]
) -> list[tuple[int, float]]:
    """Return step and accuracy of every evaluation at one setting."""
    return [
        (line["step"], row["value"])
        for line in lines
        for row in line["rows"]
        if row["metric"] == "accuracy" and row["setting"].items() <= setting.items()
    ]


def _curve(row: ResultRow, lines: Sequence[Mapping[str, Any]]) -> Curve:
    course = _course(row["setting"], lines)
    return Curve(
        learning_rate=row["learning_rate"],
        seed=row["seed"],
        steps=tuple(step for step, _ in course),
        accuracy=tuple(value for _, value in course),
    )


def _steps_rows(
    setting: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], goal: float
) -> list[dict[str, Any]]:
    """Return the step of the first evaluation that reached the goal, if one did."""
    reached = [step for step, value in _course(setting, lines) if value >= goal]
    metric = f"steps_to_{goal:g}"
    return [{"setting": setting, "metric": metric, "value": s} for s in reached[:1]]


def _read_further(
    config: RecallConfig, job: Job, load: Load, rows: list[ResultRow]
) -> list[ResultRow]:
    """Return the rows of all probes and readings of a trained model.

    A reading whose loss is not finite counts as accuracy 0.

    Args:
        rows: rows of the training.
    """
    experiment = config.experiment(job)
    probes = config.task.probes(experiment, config)
    readings = config.task.readings(experiment, config)
    if not probes and not readings:
        return []
    loaded = load(config.directory / job.place)
    found: list[ResultRow] = []
    for probe in probes:
        with suppress(NonFiniteError):
            found += result_rows(loaded.config, probe(loaded.model), loaded.step)
    for reading in readings:
        with suppress(NonFiniteError):
            found += measured_rows(
                loaded.model,
                dataclasses.replace(loaded.config, task=reading.task),
                split="test",
                examples=reading.examples,
                step=loaded.step,
            )
    further = _of_job(found, job)
    measured = [row["setting"] for row in rows + further]
    failed = _failed_rows(config, experiment, job)
    return further + [
        row for row in failed if is_later(row) and row["setting"] not in measured
    ]


def _failed_rows(
    config: RecallConfig, experiment: ExperimentConfig, job: Job
) -> list[ResultRow]:
    """Return the rows of a diverged training: accuracy 0 everywhere."""
    nothing = (("accuracy", 0.0), ("sequence_accuracy", 0.0), ("diverged", 1.0))
    measured = [
        {"setting": setting, "metric": metric, "value": value}
        for setting in config.settings(job)
        for metric, value in nothing
    ]
    return _of_job(result_rows(experiment, measured, 0), job)


def _of_job(rows: list[ResultRow], job: Job) -> list[ResultRow]:
    """Add the sweep's name of the layer, and the width as part of the setting."""
    return [
        r | {"layer": job.layer, "setting": r["setting"] | {"width": job.width}}
        for r in rows
    ]


def command_text(command: Sequence[str]) -> str:
    """Return the command as a person would type it."""
    first, *others = command or ["memzoo"]
    name = "memzoo" if Path(first).name in ("memzoo", "__main__.py") else first
    return " ".join([name, *others])
