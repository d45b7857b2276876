"""Commands: parse the flags, call the function and return an exit code."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro

from memzoo.errors import CheckpointError, MemzooError

from .boundary import closing_line
from .configs.experiment import ExperimentConfig
from .parsing import parse, wants_help
from .train.allocator import keep_freed_memory


def run_command(name: str, arguments: list[str]) -> int:
    """Run a command and return its exit code."""
    keep_freed_memory()
    with closing_line(name) as ended:
        ended.code = _COMMANDS[name](arguments)
    return ended.code


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Train CONFIG, or resume its run from the last checkpoint."""

    experiment: Annotated[ExperimentConfig, tyro.conf.arg(name="")]
    trust: bool = False
    """Allow modules outside memzoo that a config.json names to run their code."""
    repeat_context: int | None = None
    """Read every row this many times before the answer; None: as CONFIG says."""
    repeat_question: bool = True
    """Repeat the question too, as published; otherwise only the context."""
    runs: Path = Path("runs")
    """Folder of runs; the run is written to the subfolder with its name."""
    devices: int | None = None
    """Number of simulated CPU devices; None: the devices of the machine."""
    distributed: bool = False
    """Join the other processes of a cluster that JAX can detect."""
    progress: bool = True
    """Show the progress."""
    json: bool = False
    """Print the result as one JSON object."""


def _split_first(
    arguments: list[str], command: str, what: str
) -> tuple[str | None, list[str]]:
    """Return CONFIG or RUN, the first argument, and the flags.

    CONFIG or RUN is None if it is missing and the flags ask for help.

    Raises:
        MemzooError: it is missing or blank, like an unset shell variable.
    """
    first = arguments[0] if arguments else "-"
    if first.strip() and not first.startswith("-"):
        return first, arguments[1:]
    if wants_help(arguments):
        return None, arguments if first.strip() else arguments[1:]
    remedy = {
        "CONFIG": "`memzoo list` shows the presets",
        "RUN": "give the folder of a run, such as runs/NAME",
    }[what]
    raise MemzooError(f"{command} needs a {what} as its first argument; {remedy}")


def _trusts(words: list[str]) -> bool:
    """Return whether `--trust` is set; CONFIG is read before tyro parses the flags."""
    given = [word for word in words if word in ("--trust", "--no-trust")]
    return given[-1:] == ["--trust"]


def _run_folder(argument: str) -> Path:
    """Return the folder of RUN, which may be given as its config.json.

    Raises:
        CheckpointError: it is a file, or the run is in `runs` instead.
    """
    path = Path(argument)
    if path.name == "config.json":
        path = path.parent
    if path.is_file():
        raise CheckpointError(f"{path} is a file, not a run's folder; give the folder")
    inside = Path("runs") / path
    if not path.is_absolute() and not path.exists() and inside.is_dir():
        raise CheckpointError(f"{path} is not a run; did you mean {inside}?")
    return path


def _train(arguments: list[str]) -> int:
    from .configs.outside import names_outside
    from .configs.resolve import resolve
    from .configs.serialise import to_json

    argument, rest = _split_first(arguments, "train", "CONFIG")
    # Help is the same for every preset; show it on the first.
    given = resolve(argument or "mqar-gated-delta-net", trust=_trusts(rest))
    options = parse(
        TrainOptions,
        rest,
        command=f"train {argument or 'CONFIG'}",
        default=TrainOptions(experiment=given),
    )
    _join_devices(options)
    from .data.repeat import repeat_context
    from .train.loop import train

    experiment = options.experiment
    if options.repeat_context is not None:
        task = repeat_context(
            experiment.task, options.repeat_context, options.repeat_question
        )
        experiment = dataclasses.replace(experiment, task=task)
    run = options.runs / experiment.name
    folder = None if argument is None else Path(argument)
    if folder is not None and folder.is_dir() and experiment.name == given.name:
        # A run continues in its folder, which may have been moved or renamed.
        run = folder
    command = ["memzoo", "train", *arguments]
    result = train(experiment, run, progress=options.progress, command=command)
    _say_result(result, run, options.json, names_outside(to_json(experiment)))
    return result.exit_code


def _join_devices(options: TrainOptions) -> None:
    """Set up simulated devices and the cluster, before JAX uses a device."""
    import jax

    from .train.distributed import join_processes

    if options.devices is not None:
        if options.devices < 1:
            raise MemzooError(f"--devices is {options.devices}; give 1 or more")
        try:
            jax.config.update("jax_num_cpu_devices", options.devices)
        except RuntimeError as error:
            raise MemzooError(
                "--devices comes too late, since this process has already used JAX; "
                "call memzoo in a new process"
            ) from error
    try:
        join_processes("auto" if options.distributed else None)
    except RuntimeError as error:
        raise MemzooError(
            f"cannot join the other processes ({' '.join(str(error).split())}); see "
            "the README about several hosts"
        ) from error


def _say_result(result: object, run: Path, as_json: bool, outside: bool) -> None:
    """Print the result of a run as text or as JSON.

    Args:
        outside: whether the run's config names classes outside memzoo.
    """
    evaluation = getattr(result, "evaluation", None) or {}
    step, status = getattr(result, "step", 0), getattr(result, "status", "")
    if as_json:
        print(
            json.dumps(
                {
                    "run": str(run),
                    "step": step,
                    "status": status,
                    "evaluation": evaluation,
                }
            )
        )
        return
    numbers = ", ".join(
        f"{name} {evaluation[name]:.4f}"
        for name in ("accuracy", "loss")
        if name in evaluation
    )
    words = {
        "done": "done at",
        "stopped_early": "reached its goal at",
        "preempted": "stopped and saved at",
    }
    print(
        f"{run}: {words.get(status, status)} step {step}"
        + (f"; validation {numbers}" if numbers else "")
    )
    if status == "preempted":
        print("run the same command again to continue")
    elif not evaluation:
        print("not evaluated: the task has no validation split")
    else:
        print(f"more results: memzoo eval {run}{' --trust' if outside else ''}")


def _list(arguments: list[str]) -> int:
    from .catalogue import ListOptions, show_catalogue

    return show_catalogue(parse(ListOptions, arguments, command="list"))


def _describe(arguments: list[str]) -> int:
    from .configs.resolve import resolve
    from .describe import DescribeOptions, show_description

    argument, rest = _split_first(arguments, "describe", "CONFIG")
    experiment = resolve(argument or "mqar-gated-delta-net", trust=_trusts(rest))
    options = parse(
        DescribeOptions,
        rest,
        command=f"describe {argument or 'CONFIG'}",
        default=DescribeOptions(experiment=experiment),
    )
    return show_description(options)


def _recall(arguments: list[str]) -> int:
    from .evals.recall_command import RecallOptions, options_of_task, run

    default = options_of_task(arguments)
    command = (
        "recall"
        if "--task" not in " ".join(arguments)
        else f"recall --task {default.task}"
    )
    options = parse(RecallOptions, arguments, command=command, default=default)
    return run(options.config)


def _eval(arguments: list[str]) -> int:
    from .evals.command import EvalConfig, run

    argument, rest = _split_first(arguments, "eval", "RUN")
    if argument is not None:
        rest = [str(_run_folder(argument)), *rest]
    return run(parse(EvalConfig, rest, command="eval"))


def _generate(arguments: list[str]) -> int:
    from .generate import GenerateOptions, generate_command

    argument, rest = _split_first(arguments, "generate", "RUN")
    options = parse(GenerateOptions, rest, command="generate RUN")
    assert argument is not None  # parse has raised HelpShown
    return generate_command(_run_folder(argument), options)


_CHECK_HELP = """usage: memzoo check FILE

Run the laws of a memory layer on every layer config that the Python file defines: a
frozen dataclass with `build` and a default for every field. docs/adding-a-layer.md
shows one. The exit code is 0 if every law holds and 1 if one is broken."""


def _check(arguments: list[str]) -> int:
    if wants_help(arguments):
        print(_CHECK_HELP)
        return 0
    from .check import check_command

    blank = not all(word.strip() for word in arguments)
    if len(arguments) != 1 or arguments[0].startswith("-") or blank:
        raise MemzooError(
            "check takes one Python file, which defines layer configs; "
            "see docs/adding-a-layer.md"
        )
    return check_command(Path(arguments[0]))


def _bench(arguments: list[str]) -> int:
    from .benchmarks.command import BenchConfig, run

    return run(parse(BenchConfig, arguments, command="bench"))


def _demo(arguments: list[str]) -> int:
    from .evals.demo import DemoConfig, run

    return run(parse(DemoConfig, arguments, command="demo"))


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "list": _list,
    "describe": _describe,
    "train": _train,
    "recall": _recall,
    "eval": _eval,
    "generate": _generate,
    "check": _check,
    "bench": _bench,
    "demo": _demo,
}
