"""The commands: from flags to functions, and from errors to exit codes."""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro

from .configs.errors import MemzooError
from .configs.experiment import ExperimentConfig
from .parsing import parse


def run_command(name: str, arguments: list[str]) -> int:
    """Run a command; errors that the user can mend end it with one line."""
    try:
        return _COMMANDS[name](arguments)
    except MemzooError as error:
        print(f"memzoo: {error}", file=sys.stderr)
        return error.exit_code
    except ValueError as error:
        # What configs, layers and data refuse; anything else is ours to mend.
        print(f"memzoo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("memzoo: interrupted", file=sys.stderr)
        return 130


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Pretrain CONFIG, or resume the run where it stopped."""

    experiment: Annotated[ExperimentConfig, tyro.conf.arg(name="")]
    runs: Path = Path("runs")
    """Folder of runs; the run goes to a folder of its name in it."""
    devices: int | None = None
    """Simulated devices on a CPU; None: what the machine has."""
    distributed: bool = False
    """One of several processes: join them by jax.distributed.initialize()."""
    progress: bool = True
    """Show how far it is."""
    json: bool = False
    """Print the result as one JSON object."""


def _split_config(arguments: list[str], command: str) -> tuple[str, list[str]]:
    """CONFIG or RUN, which comes first, and the flags."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], arguments[1:]
    if {"-h", "--help"} & set(arguments):
        return "", arguments
    what = "RUN" if command in ("generate", "eval") else "CONFIG"
    remedy = "see runs/" if what == "RUN" else "`memzoo list` shows the presets"
    raise MemzooError(f"memzoo {command} needs a {what} as its first word; {remedy}")


def _train(arguments: list[str]) -> int:
    import jax

    from .configs.resolve import resolve

    argument, rest = _split_config(arguments, "train")
    # Help is the same for every preset; show it on the first.
    experiment = resolve(argument or "mqar-gated-delta-net")
    options = parse(
        TrainOptions,
        rest,
        command=f"train {argument or 'CONFIG'}",
        default=TrainOptions(experiment=experiment),
    )
    if options.distributed:
        jax.distributed.initialize()
    elif options.devices is not None:
        jax.config.update("jax_num_cpu_devices", options.devices)
    from .train.loop import train

    experiment = options.experiment
    run = options.runs / experiment.name
    if Path(argument).is_dir():
        run = Path(argument)
    command = ["memzoo", "train", *arguments]
    result = train(experiment, run, progress=options.progress, command=command)
    _say_result(result, run, options.json)
    return result.exit_code


def _say_result(result: object, run: Path, as_json: bool) -> None:
    """One line, or one object, about a finished run."""
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
    else:
        print(f"look closer: memzoo eval {run}")


def _list(arguments: list[str]) -> int:
    from .catalogue import ListOptions, show_catalogue

    return show_catalogue(parse(ListOptions, arguments, command="list"))


def _describe(arguments: list[str]) -> int:
    from .configs.resolve import resolve
    from .describe import DescribeOptions, show_description

    argument, rest = _split_config(arguments, "describe")
    experiment = resolve(argument or "mqar-gated-delta-net")
    options = parse(
        DescribeOptions,
        rest,
        command=f"describe {argument or 'CONFIG'}",
        default=DescribeOptions(experiment=experiment),
    )
    return show_description(options)


def _recall(arguments: list[str]) -> int:
    from .evals.recall_config import RecallConfig
    from .evals.sweep import run

    return run(parse(RecallConfig, arguments, command="recall"))


def _eval(arguments: list[str]) -> int:
    from .evals.command import EvalConfig, run

    run_dir, rest = _split_config(arguments, "eval")
    return run(parse(EvalConfig, ["--run", run_dir or ".", *rest], command="eval"))


def _generate(arguments: list[str]) -> int:
    from .generate import GenerateOptions, generate_command

    run_dir, rest = _split_config(arguments, "generate")
    return generate_command(
        Path(run_dir), parse(GenerateOptions, rest, command="generate")
    )


def _check(arguments: list[str]) -> int:
    from .check import check_command

    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise MemzooError(
            "memzoo check takes one Python file, which defines layer configs; "
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
