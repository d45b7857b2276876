"""`memzoo eval`: load a checkpoint and measure it."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from memzoo.errors import InputError

from ..configs.reading import ReadError
from ..data.repeat import repeat_context
from ..data.task import Split, at_length, with_task_fields
from ..train.checkpoint import Report
from ..train.manifest import DamagedError
from ..train.metrics import add_timings
from ..train.runs import load_run
from ..train.writing import SaveError, explained
from .results import RESULTS, ResultRow, measured_rows, read_results, write_results
from .stream_command import StreamOptions, StreamReport, stream_run
from .summary import setting_text
from .table import Column, Table, column, print_table
from .tuple_flags import Integers, Sizes


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Measure a checkpoint on its own task, one result per setting."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    checkpoint: int | None = None
    """Step of the checkpoint; None: the newest intact one."""
    trust: bool = False
    """Run the code of modules outside memzoo that the run's config.json names."""
    split: Split = "validation"
    """Split to read; the model was trained on train alone."""
    examples: int | None = None
    """Rows to read; None: as many as the run's own evaluations."""
    batch_size: int | None = None
    """Rows computed at once; None: as in the run."""
    lengths: Integers = ()
    """Read rows of these lengths instead of the run's length; needles at five
    depths.
    """
    sizes: Sizes = ()
    """set_disjointness: read sets of these sizes instead of the run's."""
    repeat_context: int | None = None
    """Times each row is read before it is answered; None: as in the run."""
    repeat_question: bool = True
    """Repeat the question too, as published; otherwise only the context."""
    json: bool = False
    """Print the rows as JSON instead of a table."""
    streaming: Annotated[StreamOptions, tyro.conf.arg(name="")] = field(
        default_factory=StreamOptions
    )

    def __post_init__(self) -> None:
        for name in ("examples", "batch_size", "repeat_context"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; give 1 or more")
            if value is not None and value >= 2**31:
                raise InputError(f"{name} is {value}; give a number below 2^31")
        if self.lengths and self.batch_size is not None:
            raise InputError(
                f"batch_size is {self.batch_size}; leave it out, lengths set it"
            )
        if self.checkpoint is not None and self.checkpoint < 0:
            raise InputError(f"checkpoint is {self.checkpoint}; give 0 or more")
        if self.streaming.stream is not None:
            for name in (
                "examples",
                "batch_size",
                "lengths",
                "sizes",
                "repeat_context",
            ):
                if getattr(self, name):
                    raise InputError(
                        f"{name} is {getattr(self, name)}; leave it out, --stream "
                        "does not use it"
                    )


def run(config: EvalConfig) -> int:
    """Run `memzoo eval`: measure, print, write results.json; return the exit code.

    Print a warning if results.json cannot be written; the exit code is then still 0.

    Raises:
        CheckpointError: the run or an intact checkpoint is missing.
        DataError: the data is missing.
        MemzooError: the document cannot be streamed.
    """
    console = Console(stderr=True, highlight=False)

    def report(line: str) -> None:
        console.print(line, soft_wrap=True, markup=False)

    rows, streamed = _measure_or_stream(config, report)
    for line in [] if streamed is None else streamed.said:
        report(line)
    if config.json:
        print(json.dumps(rows, indent=2))
    else:
        print_results(rows)
    sys.stdout.flush()
    try:
        _keep(config.run / RESULTS, rows, report)
        if streamed is not None:
            _keep_stream(config.run, streamed, report)
    except (SaveError, ReadError) as error:
        # The run may be someone else's, so the remedy for a failed training does not
        # apply.
        said = str(error).partition("; ")[0]
        report(f"memzoo: warning: the results are not saved: {said}")
    return 0


def _keep_stream(run: Path, streamed: StreamReport, report: Report | None) -> None:
    """Write the page and the timings of a document to the run's folder."""
    add_timings(run, streamed.timings, report=report)
    page = streamed.write_page(run)
    if report is not None:
        report(f"page: {page}")


def evaluate_run(
    config: EvalConfig, *, report: Report | None = None
) -> list[ResultRow]:
    """Measure a checkpoint, add its rows to results.json and return them.

    results.json keeps its rows of other checkpoints and splits.
    """
    rows, streamed = _measure_or_stream(config, report)
    _keep(config.run / RESULTS, rows, report)
    if streamed is not None:
        _keep_stream(config.run, streamed, report)
    return rows


def _measure_or_stream(
    config: EvalConfig, report: Report | None
) -> tuple[list[ResultRow], StreamReport | None]:
    if config.streaming.stream is None:
        return _measure(config, report), None
    loaded = load_run(config.run, config.checkpoint, report=report, trust=config.trust)
    streamed = stream_run(config.run, loaded, config.streaming, config.split)
    return streamed.rows, streamed


def _measure(config: EvalConfig, report: Report | None) -> list[ResultRow]:
    loaded = load_run(config.run, config.checkpoint, report=report, trust=config.trust)
    experiment = loaded.config
    if config.repeat_context is not None:
        task = repeat_context(
            experiment.task, config.repeat_context, config.repeat_question
        )
        experiment = dataclasses.replace(experiment, task=task)
    if config.sizes:
        task = with_task_fields(experiment.task, sizes=config.sizes)
        experiment = dataclasses.replace(experiment, task=task)
    examples = config.examples or experiment.evaluation_examples
    experiments = [
        dataclasses.replace(experiment, task=at_length(experiment.task, length))
        for length in config.lengths
    ]
    batch_size = config.batch_size or experiment.batch_size
    return [
        row
        for each in experiments or [experiment]
        for row in measured_rows(
            loaded.model,
            each,
            split=config.split,
            examples=examples,
            step=loaded.step,
            batch_size=None if experiments else batch_size,
        )
    ]


def _keep(path: Path, rows: list[ResultRow], report: Report | None) -> None:
    """Add the rows to results.json, beside those of other checkpoints and splits.

    Move a damaged file aside; the new file then holds only these rows.

    Raises:
        SaveError: results.json cannot be written.
        ReadError: results.json exists and cannot be read.
    """
    new = {_place(row) for row in rows}
    kept: list[ResultRow] = []
    try:
        kept = read_results(path)
    except FileNotFoundError:
        pass
    except DamagedError as error:
        number = len(list(path.parent.glob(f"{path.name}.damaged-*")))
        aside = path.with_name(f"{path.name}.damaged-{number}")
        with explained(aside):
            path.replace(aside)
        if report is not None:
            report(
                f"memzoo: warning: {path} is damaged: {error}; it is now {aside.name}, "
                "recover the rows of other checkpoints from there"
            )
    kept = [row for row in kept if _place(row) not in new]
    write_results(path, sorted(kept + rows, key=lambda row: row["checkpoint_step"]))


def print_results(rows: Sequence[ResultRow], console: Console | None = None) -> None:
    """Print a table: one line per setting, one column per metric."""
    first = rows[0]
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    values = {(_setting_text(row), row["metric"]): row["value"] for row in rows}
    chances = {_setting_text(r): r["chance"] for r in rows if r["chance"] is not None}
    columns = [column(metric.replace("_", " ")) for metric in metrics]
    table = Table(
        title=f"{first['layer']} on {first['task']}, step {first['checkpoint_step']}, "
        f"{first['parameters']:,} parameters",
        columns=[
            Column(heading="setting", short="setting", words=True),
            *columns,
            *([column("chance")] if chances else []),
        ],
        rows=[
            (
                setting,
                *(f"{values[setting, metric]:.4f}" for metric in metrics),
                *([f"{chances[setting]:.4f}"] if chances else []),
            )
            for setting in dict.fromkeys(map(_setting_text, rows))
        ],
    )
    print_table(table, console)


def _place(row: ResultRow) -> tuple[object, ...]:
    """Return the key of a row among all rows of a run."""
    setting = tuple(sorted(row["setting"].items()))
    return row["checkpoint_step"], row["metric"], setting


def _setting_text(row: ResultRow) -> str:
    return setting_text(row["setting"])
