"""The one training loop over layers, learning rates and seeds."""

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
    """A sweep whose trainings are all done."""

    page: Path
    measured: Measured
    findings: Findings


class SweepStopped(MemzooError):
    """A training was asked to stop, and saved; the sweep can go on later."""

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
    """Do every training of the sweep, and write results.json and report.html.

    What is finished is not trained again, and a training that was interrupted goes on
    from its newest checkpoint. A training whose record is damaged is done again, and
    a line says so. A training whose loss is no longer a number counts as an accuracy
    of 0.

    Args:
        config: the sweep.
        progress: show how far it is.
        train: the training loop.
        load: how the model of a finished training is read beyond its own length.
        command: what the page says was called; `None`: this program's arguments.
        more: something is run after the sweep, so that a stop that comes with its last
            training counts too.

    Raises:
        MemzooError: the folder holds a sweep of another kind.
        ReadError: a record is there and cannot be read.
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
                    "again to go on",
                    stop_exit_code(asked),
                )
    return write_outcome(config, command)


def write_outcome(config: RecallConfig, command: Sequence[str]) -> Finished:
    """Write results.json and report.html of all that is done in the sweep's folder."""
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
    """Return rows and learning curves of all that is done in the sweep's folder."""
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
    """Rows of one training, made or continued, and whether it was asked to stop."""
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
            "start the command again to go on",
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
    """Step and accuracy of every evaluation, at one setting."""
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
    """The step of the first evaluation that reached the goal, if one did."""
    reached = [step for step, value in _course(setting, lines) if value >= goal]
    metric = f"steps_to_{goal:g}"
    return [{"setting": setting, "metric": metric, "value": s} for s in reached[:1]]


def _read_further(
    config: RecallConfig, job: Job, load: Load, rows: list[ResultRow]
) -> list[ResultRow]:
    """Rows of all that a trained model is given later.

    A model that diverges on a reading recalls nothing there.

    Args:
        rows: of the training.
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
    """Rows of a training that came to nothing: it recalls nothing."""
    nothing = (("accuracy", 0.0), ("sequence_accuracy", 0.0), ("diverged", 1.0))
    measured = [
        {"setting": setting, "metric": metric, "value": value}
        for setting in config.settings(job)
        for metric, value in nothing
    ]
    return _of_job(result_rows(experiment, measured, 0), job)


def _of_job(rows: list[ResultRow], job: Job) -> list[ResultRow]:
    """The layer as the sweep names it, the width as part of the setting."""
    return [
        r | {"layer": job.layer, "setting": r["setting"] | {"width": job.width}}
        for r in rows
    ]


def command_text(command: Sequence[str]) -> str:
    """Return the command as a person would type it."""
    first, *others = command or ["memzoo"]
    name = "memzoo" if Path(first).name in ("memzoo", "__main__.py") else first
    return " ".join([name, *others])
