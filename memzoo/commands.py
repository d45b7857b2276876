"""The commands: from flags to functions, and from errors to exit codes."""

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
    """Pretrain CONFIG, or resume the run where it stopped."""

    experiment: Annotated[ExperimentConfig, tyro.conf.arg(name="")]
    trust: bool = False
    """Run the code of modules outside memzoo that a config.json names."""
    repeat_context: int | None = None
    """Times that every row is read before it is answered; None: as CONFIG says."""
    repeat_question: bool = True
    """Read the question again too, as published; otherwise the context alone."""
    runs: Path = Path("runs")
    """Folder of runs; the run goes to a folder of its name in it."""
    devices: int | None = None
    """Simulated devices on a CPU; None: what the machine has."""
    distributed: bool = False
    """One of several processes of a cluster that JAX can find: join the others."""
    progress: bool = True
    """Show how far it is."""
    json: bool = False
    """Print the result as one JSON object."""


def _split_first(
    arguments: list[str], command: str, what: str
) -> tuple[str | None, list[str]]:
    """Return CONFIG or RUN, which comes first, and the flags.

    CONFIG or RUN is None where it is left out and help is asked for.

    Raises:
        MemzooError: it is left out or blank, as a shell variable that is not set.
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
    raise MemzooError(f"{command} needs a {what} as its first word; {remedy}")


def _trusts(words: list[str]) -> bool:
    """Whether `--trust` is among them: CONFIG is read before its flags can be."""
    given = [word for word in words if word in ("--trust", "--no-trust")]
    return given[-1:] == ["--trust"]


def _run_folder(argument: str) -> Path:
    """RUN as a folder; its config.json stands for it.

    Raises:
        CheckpointError: it is a file, or there is such a run, but elsewhere.
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
        # The folder of a run may have been moved or renamed.
        run = folder
    command = ["memzoo", "train", *arguments]
    result = train(experiment, run, progress=options.progress, command=command)
    _say_result(result, run, options.json, names_outside(to_json(experiment)))
    return result.exit_code


def _join_devices(options: TrainOptions) -> None:
    """The devices that were asked for are there; before anything touches one."""
    import jax

    from .train.distributed import join_processes

    if options.devices is not None:
        if options.devices < 1:
            raise MemzooError(f"--devices is {options.devices}; give 1 or more")
        try:
            jax.config.update("jax_num_cpu_devices", options.devices)
        except RuntimeError as error:
            raise MemzooError(
                "--devices comes too late: this process has used JAX already; call "
                "memzoo in a process of its own"
            ) from error
    try:
        join_processes("auto" if options.distributed else None)
    except RuntimeError as error:
        raise MemzooError(
            f"cannot join the other processes ({' '.join(str(error).split())}); see "
            "the README on several hosts"
        ) from error


def _say_result(result: object, run: Path, as_json: bool, outside: bool) -> None:
    """One line, or one object, about a finished run.

    Args:
        outside: its config names classes outside memzoo.
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
        print("the same command goes on from there")
    elif not evaluation:
        print("not evaluated: the task has no validation split")
    else:
        print(f"look closer: memzoo eval {run}{' --trust' if outside else ''}")


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
    assert argument is not None  # help has ended the program
    return generate_command(_run_folder(argument), options)


_CHECK_HELP = """usage: memzoo check FILE

Run the laws of a memory layer on every layer that the Python file defines: frozen
dataclasses with `build` and a default for every field. docs/adding-a-layer.md has one.
Exit code 0 where every law holds, 1 where one is broken."""


def _check(arguments: list[str]) -> int:
    if wants_help(arguments):
        print(_CHECK_HELP)
        return 0
    from .check import check_command

    blank = not all(word.strip() for word in arguments)
    if len(arguments) != 1 or arguments[0].startswith("-") or blank:
        raise MemzooError(
            "check takes one Python file, which defines layer configs; "
            "docs/adding-a-layer.md shows one"
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
