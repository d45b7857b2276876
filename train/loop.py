"""The training loop."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import jax

from ..configs.experiment import ExperimentConfig
from ..configs.record import fits_checksum
from ..configs.serialise import to_json
from ..data.pipeline import Pipeline
from ..data.task import has_split
from ..evals.evaluate import check_targets
from .checkpoint import Checkpoints, Restored, restore_newest, saved_steps
from .lock import locked
from .manifest import check_config
from .metrics import RunLog
from .peers import watched_processes
from .program import Program, make_program
from .progress import Screen
from .runs import CHECKPOINTS, CONFIG, read_record, write_record
from .session import Evaluate, OnLog, Session, TrainResult
from .sharding import make_mesh
from .signals import StopSignals
from .starting import initial_state
from .writing import SaveError


def train(
    config: ExperimentConfig,
    run_dir: str | Path,
    *,
    progress: bool = True,
    on_log: OnLog | None = None,
    evaluator: Evaluate | None = None,
    command: Sequence[str] | None = None,
) -> TrainResult:
    """Train the run in `run_dir` to its last step, from where it stands.

    A directory with a run is continued from its newest intact checkpoint; the result is
    bit for bit that of an uninterrupted run.

    Args:
        config: the experiment.
        run_dir: folder for all files of the run.
        progress: whether to show progress.
        on_log: called with every line of metrics.jsonl.
        evaluator: replaces `evals.evaluate.evaluate`, with the same arguments.
        command: the command to store in config.json; `None`: this program's arguments.

    Raises:
        InputError: the config does not fit the devices.
        DataError: the data of training or evaluation is missing.
        MemzooError: the config disagrees with the run's, another process trains the
            run, or a file cannot be written.
        CheckpointError: no checkpoint is intact, or the data changed.
        NonFiniteError: a loss, a gradient, an update or an evaluation is not finite.
    """
    run_dir = Path(run_dir)
    mesh = make_mesh(config.mesh)
    program = make_program(config, mesh)
    first = jax.process_index() == 0
    with ExitStack() as stack:
        stack.enter_context(jax.set_mesh(mesh))
        signals = stack.enter_context(StopSignals())
        screen = stack.enter_context(
            Screen(config.name, config.steps, shown=progress and first)
        )
        stop = partial(_stopped, screen, run_dir, config, command)
        watch = stack.enter_context(watched_processes(stop, screen.say))
        data = stack.enter_context(_pipeline(config))
        stack.enter_context(locked(run_dir))
        restored = _restore(config, run_dir, program, data, screen)
        if restored is None:
            init = initial_state(config, program)
            program = dataclasses.replace(program, init=init)
        _check_validation(config)
        start = restored.step if restored else 0
        # If the run is already past the requested steps, its config.json stays true.
        if start <= config.steps:
            write_record(run_dir, config, "running", command)
            stack.enter_context(_failure_recorded(run_dir, config, command))
        log = RunLog(run_dir, start, writes=first, report=screen.say)
        directory = run_dir / CHECKPOINTS
        checkpoints = Checkpoints(directory, keep=config.keep_checkpoints)
        # Leaving the checkpoints waits for all processes, so tell them of errors first.
        with checkpoints, watch.telling():
            result = Session(
                config,
                program=program,
                restored=restored,
                data=data,
                checkpoints=checkpoints,
                log=log,
                screen=screen,
                on_log=on_log,
                evaluator=evaluator,
            ).run(signals)
        if start <= config.steps:
            write_record(run_dir, config, result.status, command)
    return result


def _stopped(
    screen: Screen,
    run_dir: Path,
    config: ExperimentConfig,
    command: Sequence[str] | None,
) -> None:
    """Record that another process's end has ended the run."""
    screen.__exit__()
    write_record(run_dir, config, "failed", command)


@contextmanager
def _failure_recorded(
    run_dir: Path, config: ExperimentConfig, command: Sequence[str] | None
) -> Iterator[None]:
    """Record an error that ends the run in config.json."""
    try:
        yield
    except Exception:
        with suppress(SaveError):  # the first error is the one to hear of
            write_record(run_dir, config, "failed", command)
        raise


def _restore(
    config: ExperimentConfig,
    run_dir: Path,
    program: Program,
    data: Pipeline,
    screen: Screen,
) -> Restored | None:
    """Return the state to continue from; `None` for a new run."""
    record = read_record(run_dir)
    present = to_json(config)
    if record is not None and not fits_checksum(record):
        # The checkpoints know the original config.
        screen.say(
            f"{run_dir / CONFIG} has changed since memzoo wrote it: rewriting it"
        )
    elif record is not None and saved_steps(run_dir / CHECKPOINTS):
        check_config(record["config"], present)
    restored = restore_newest(
        run_dir / CHECKPOINTS,
        program.specs,
        fingerprint=data.fingerprint,
        config=present,
        report=screen.say,
    )
    if restored is not None:
        data.set_state(restored.data)
        screen.note(
            f"{run_dir}: continuing from step {restored.step}"
            if restored.step <= config.steps
            else f"{run_dir}: already at step {restored.step}"
        )
    elif record is not None:
        same = record["config"] == json.loads(json.dumps(present))
        screen.note(
            f"{run_dir} has no checkpoint yet: starting at step 0"
            + ("" if same else " anew, with the new config")
        )
    return restored


def _check_validation(config: ExperimentConfig) -> None:
    """Check the validation split before training, not after it."""
    if has_split(config.task, "validation"):
        check_targets(
            config.task,
            split="validation",
            examples=config.evaluation_examples,
            batch_size=config.batch_size,
        )


def _pipeline(config: ExperimentConfig) -> Pipeline:
    """Return this process's rows of the training split."""
    return Pipeline(
        config.task,
        "train",
        config.batch_size,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        num_workers=config.data_workers,
    )
