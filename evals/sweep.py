"""`memzoo recall`: the one training loop over layers, learning rates and seeds."""

import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from memzoo.errors import MemzooError, NonFiniteError

from ..configs.experiment import ExperimentConfig
from ..data.mqar import MqarConfig
from ..train.loop import TrainResult, train
from ..train.metrics import EVALUATIONS, read_lines
from ..train.runs import LoadedRun, load_run
from ..train.signals import stop_exit_code
from .figures import Curve
from .length import by_length, by_readings, by_sizes
from .readings import rows_of_training
from .recall_config import Job, RecallConfig
from .recall_page import details, recall_page
from .report import CurveKey, curve_key, made_section, versions, write_report
from .results import RESULTS, ResultRow, read_results, result_rows, write_results
from .routing import has_mixture, routing_rows
from .show import (
    Announcer,
    print_gains,
    print_lengths,
    print_orders,
    print_rows,
    print_summary,
    say,
)
from .sweep_files import SweepFiles

REPORT = "report.html"

_ROUTED_EXAMPLES = 128

Train = Callable[..., TrainResult]
Load = Callable[[Path], LoadedRun]


class SweepStopped(MemzooError):
    """A training was asked to stop, and saved; the sweep can go on later."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run(config: RecallConfig) -> int:
    """`memzoo recall`: trains what is missing, prints the table; the exit code."""
    page = recall(config)
    rows = read_results(config.directory / RESULTS)
    if config.json:
        print_rows(rows)
        return 0
    if config.task == "needle":
        print_lengths(rows)
    elif config.task == "set_disjointness":
        print_orders(rows)
    else:
        print_summary(rows_of_training(rows), goal=config.stop_at)
        print_gains(rows)
    print(f"\n{page}")
    return 0


def recall(
    config: RecallConfig,
    *,
    progress: bool = True,
    train: Train = train,
    load: Load = load_run,
    command: Sequence[str] | None = None,
    more: bool = False,
) -> Path:
    """Every training of the sweep is done, results.json and report.html are written.

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
        more: something is run behind the sweep, so that a stop that comes with its last
            training counts too.

    Returns:
        The report.

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
            if config.task in _FURTHER and rows[0]["checkpoint_step"]:
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


def write_outcome(config: RecallConfig, command: Sequence[str]) -> Path:
    """results.json and report.html of everything in the sweep's folder that is done."""
    rows, curves = collect(config)
    write_results(config.directory / RESULTS, rows)
    page = recall_page(config, rows, curves)
    made = made_section(command_text(command), versions(), details(config))
    return write_report(
        config.directory / REPORT,
        [*page.sections, made],
        title=page.title,
        finding=page.finding,
    )


def collect(
    config: RecallConfig,
) -> tuple[list[ResultRow], dict[CurveKey, list[Curve]]]:
    """Rows and learning curves of everything in the sweep's folder that is done."""
    rows: list[ResultRow] = []
    curves: dict[CurveKey, list[Curve]] = {}
    files = SweepFiles(config, say)
    for outcome in files.outcomes().values():
        rows += outcome.rows
        for row in outcome.rows:
            if row["metric"] == "accuracy" and not _read_later(row):
                key = curve_key(row["layer"], row["setting"])
                curve = _curve(row, outcome.evaluations)
                curves.setdefault(key, []).append(curve)
    return rows, curves


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


def _read_lengths(config: RecallConfig, job: Job, load: Load) -> list[ResultRow]:
    """Rows of a trained model at every length, on the test split."""
    loaded = load(config.directory / job.place)
    rows: list[ResultRow] = []
    for length in config.lengths:
        with suppress(NonFiniteError):
            rows += by_length(
                loaded.model,
                loaded.config,
                (length,),
                split="test",
                examples=config.length_examples,
                step=loaded.step,
                depths=config.depths,
            )
    return _of_job(rows, job)


def _read_sizes(config: RecallConfig, job: Job, load: Load) -> list[ResultRow]:
    """Rows of a trained model on sets of every size, on the test split."""
    loaded = load(config.directory / job.place)
    rows: list[ResultRow] = []
    for size in config.read_sizes:
        with suppress(NonFiniteError):
            rows += by_sizes(
                loaded.model,
                loaded.config,
                (size,),
                examples=config.size_examples,
                step=loaded.step,
            )
    return _of_job(rows, job)


def _read_routing(config: RecallConfig, job: Job, load: Load) -> list[ResultRow]:
    """Rows of where a trained model sends its tokens, if it holds a mixture."""
    experiment = config.experiment(job)
    task = experiment.task
    if not isinstance(task, MqarConfig) or len(job.num_pairs) > 1:
        return []
    if not has_mixture(experiment.model.pattern):
        return []
    loaded = load(config.directory / job.place)
    measured = routing_rows(
        loaded.model,
        task,
        examples=min(config.evaluation_examples, _ROUTED_EXAMPLES),
        batch_size=config.batch_size,
    )
    return _of_job(result_rows(loaded.config, measured, loaded.step), job)


def _read_again(config: RecallConfig, job: Job, load: Load) -> list[ResultRow]:
    """Rows of where tokens are sent, and of a trained model that reads again."""
    routed = _read_routing(config, job, load)
    if not config.read_again:
        return routed
    loaded = load(config.directory / job.place)
    rows = by_readings(
        loaded.model,
        loaded.config,
        config.read_again,
        question=config.repeat_question,
        examples=config.evaluation_examples,
        step=loaded.step,
    )
    return routed + _of_job(rows, job)


# How a trained model is read beyond its own numbers, by task.
_FURTHER = {
    "mqar": _read_again,
    "needle": _read_lengths,
    "set_disjointness": _read_sizes,
}


def _read_further(
    config: RecallConfig, job: Job, load: Load, rows: list[ResultRow]
) -> list[ResultRow]:
    """Rows of all that a trained model reads later; where it diverges, of no recall.

    Args:
        rows: of the training.
    """
    further: list[ResultRow] = []
    with suppress(NonFiniteError):
        further = _FURTHER[config.task](config, job, load)
    measured = [row["setting"] for row in rows + further]
    failed = _failed_rows(config, config.experiment(job), job)
    return further + [
        row for row in failed if _read_later(row) and row["setting"] not in measured
    ]


def _read_later(row: ResultRow) -> bool:
    """Whether the row was measured when training had ended, not during it."""
    return bool({"depth", "split"} & set(row["setting"]))


def _failed_rows(
    config: RecallConfig, experiment: ExperimentConfig, job: Job
) -> list[ResultRow]:
    """A training that came to nothing counts as one that recalls nothing."""
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
    """What was called, as a person would type it."""
    first, *others = command or ["memzoo"]
    name = "memzoo" if Path(first).name in ("memzoo", "__main__.py") else first
    return " ".join([name, *others])
