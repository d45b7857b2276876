"""`memzoo demo`: train, compare, reload and evaluate, on one page in a few minutes."""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from memzoo.errors import CheckpointError, MemzooError

from ..configs.experiment import ExperimentConfig
from ..configs.presets import PRESETS
from ..data.text import TextConfig
from ..train.loop import TrainResult, train
from ..train.metrics import EVALUATIONS, read_lines
from ..train.runs import load_run
from . import sweep
from .command import print_results
from .evaluate import evaluate
from .page import write_page
from .recall_command import print_tables
from .recall_config import RecallConfig
from .recall_page import details
from .report import made_section, versions
from .results import RESULTS, ResultRow, result_rows, write_results
from .sweep_progress import say
from .tasks.mqar import MqarRecall
from .text_report import text_section

TEXT = Path("text") / "gated_delta_net"


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Pretrain three layers on recall and one on real text, reload and evaluate them.

    Takes a few minutes on two cores, without network. A second call continues the
    first.
    """

    output: Path = Path("runs")
    """Folder of runs."""
    name: str = "demo"
    """Name of the demo's folder in the output folder."""
    recall_steps: int = 800
    """Most optimizer steps of each layer on recall."""
    text_steps: int = 240
    """Optimizer steps on text."""

    def recall(self) -> RecallConfig:
        """Return the comparison: one model per layer, trained on 4, 8 and 16 pairs at
        once."""
        return RecallConfig(
            layers=("gated_delta_net", "linear_attention", "attention"),
            task=MqarRecall(num_pairs=(4, 8, 16), mixture=True),
            learning_rates=(1e-2,),
            seeds=(0,),
            steps=self.recall_steps,
            evaluation_examples=768,
            name=self.name,
            output=self.output,
        )

    def text(self) -> ExperimentConfig:
        """Return a small byte model of the Python standard library's sources."""
        preset = PRESETS["text-gated-delta-net"]()
        (group,) = preset.model.pattern
        half = dataclasses.replace(group, repeats=2)
        return dataclasses.replace(
            preset,
            model=dataclasses.replace(preset.model, pattern=(half,)),
            name=f"{self.name}-text",
            task=TextConfig(length=256, max_bytes=8_000_000),
            steps=self.text_steps,
            evaluate_every=100,
            optimizer=dataclasses.replace(preset.optimizer, warmup_steps=30),
        )


def run(config: DemoConfig) -> int:
    """Run `memzoo demo` and return the exit code.

    Raises:
        MemzooError: a reloaded model evaluates differently than in memory.
        SweepStopped: a training was asked to stop.
    """
    console = Console(highlight=False)

    def tell(line: str) -> None:
        console.print(line, soft_wrap=True)

    comparison, experiment = config.recall(), config.text()
    directory = comparison.directory
    tell("[bold]1. Three layers learn to recall[/bold]")
    findings = sweep.recall(comparison, more=True).findings
    tell("[bold]2. One of them learns real text[/bold]")
    text_rows = train_text(experiment, directory / TEXT)
    print_tables(findings.sections)
    print_results(text_rows)
    tell("[bold]3. Each checkpoint is loaded from disk and evaluated again[/bold]")
    places = [directory / job.place for job in comparison.jobs()] + [directory / TEXT]
    for place in places:
        count = check_reloaded(place)
        tell(f"{place}: all {count} numbers are exactly those of the model in memory")
    report = write_demo_report(comparison, experiment, text_rows, len(places))
    tell(f"\n[bold]{report}[/bold]")
    return 0


def train_text(experiment: ExperimentConfig, directory: Path) -> list[ResultRow]:
    """Train the model on text, from where it stopped, and return its rows."""
    result: TrainResult = train(experiment, directory)
    if result.status == "preempted":
        raise sweep.SweepStopped(
            f"stopped on text, at step {result.step} of {experiment.steps}; start the "
            "command again to continue",
            result.exit_code,
        )
    assert result.evaluation is not None
    rows = result_rows(experiment, result.evaluation["rows"], result.step)
    write_results(directory / RESULTS, rows)
    return rows


def check_reloaded(directory: Path) -> int:
    """Check that a checkpoint evaluates as the model did in memory; count the numbers.

    Raises:
        MemzooError: a number differs.
        CheckpointError: the evaluation in memory is lost, or there is no checkpoint.
    """
    loaded = load_run(directory)
    lines = read_lines(directory / EVALUATIONS, report=say)
    there = [line for line in lines if line["step"] == loaded.step]
    if not there:
        raise CheckpointError(
            f"{directory / EVALUATIONS} has lost the evaluation of step {loaded.step}; "
            f"move {directory} away and start the command again"
        )
    experiment = loaded.config
    found = evaluate(
        loaded.model,
        experiment.task,
        examples=experiment.evaluation_examples,
        batch_size=experiment.batch_size,
    )
    reloaded = dataclasses.asdict(found) | {"step": loaded.step}
    numbers, others = _numbers(there[-1]), _numbers(reloaded)
    if numbers != others:
        differ = next(k for k in numbers if numbers[k] != others.get(k))
        raise MemzooError(
            f"{directory}: {differ} was {numbers[differ]!r} in memory and is "
            f"{others.get(differ)!r} reloaded; please report this as a bug"
        )
    return len(numbers)


def write_demo_report(
    comparison: RecallConfig,
    experiment: ExperimentConfig,
    text_rows: Sequence[ResultRow],
    checked: int,
    command: Sequence[str] | None = None,
) -> Path:
    """Write the page: recall, text, and how it was made."""
    finding, sections = comparison.task.findings(sweep.collect(comparison))
    name = "Sources of Python's standard library, byte by byte"
    *before, remarks = sections
    bits = next(r["value"] for r in text_rows if r["metric"] == "bits_per_byte")
    lines = [
        *details(comparison),
        f"Text: {experiment.steps} steps of {experiment.batch_size} rows of "
        f"{experiment.task.length} bytes, width {experiment.model.width}, "
        f"{experiment.model.stack.depth} blocks; evaluated on other files than those "
        "it was trained on.",
        f"Each of the {checked} models was loaded from its checkpoint and evaluated "
        "again: every number is exactly the one in memory.",
        "This is a demonstration with one seed and one learning rate: `memzoo recall` "
        "compares layers over several of both.",
    ]
    made = sweep.command_text(list(sys.argv if command is None else command))
    return write_page(
        comparison.directory / sweep.REPORT,
        title="Three memories, compared",
        finding=f"{finding} On real text, gated_delta_net needs {bits:.2f} bits per "
        "byte.",
        sections=[
            *before,
            text_section(text_rows, name=name),
            remarks,
            made_section(made, versions(), lines),
        ],
    )


def _numbers(evaluation: dict[str, Any]) -> dict[str, Any]:
    """Return every number of an evaluation by name."""
    numbers = {name: evaluation[name] for name in ("step", "accuracy", "loss")}
    for row in evaluation["rows"]:
        setting = ", ".join(f"{k} {v}" for k, v in row["setting"].items())
        numbers[f"{row['metric']} at {setting}"] = row["value"]
        numbers[f"count of {row['metric']} at {setting}"] = row["count"]
    return numbers
