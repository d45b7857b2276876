"""Config of a comparison: everything that `memzoo recall` trains."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from memzoo.errors import InputError

from ..configs.experiment import ExperimentConfig, check_name
from ..configs.presets.mqar import mqar_experiment, with_window
from ..configs.serialise import type_name
from ..data.prefix import PrefixConfig
from ..data.repeat import context_length, repeat_context
from ..data.task import kinds_of
from .compared_layers import compared_layer, variants
from .recall_task import PlainRecall, RecallTask, Training
from .tasks import RECALL_TASKS
from .tasks.mqar import MqarRecall
from .tuple_flags import Floats, Integers, Names, check_counts, check_tuple

# A sweep can be extended along these, and along the axes of its task.
AXES = ("layers", "repeat_context", "width", "learning_rates", "seeds")
_NOT_MEANING = ("ablate", "name", "output", "json", "task")
# `ExperimentConfig` checks the other numbers.
_COUNTS = ("width", "depth", "num_heads", "head_size", "repeat_context")


@dataclass(frozen=True, kw_only=True)
class RecallConfig:
    """Train layers on recall, over learning rates and seeds, and compare them.

    A second call continues a sweep that was stopped. With more layers, pairs, widths,
    learning rates or seeds, it trains only what is missing.
    """

    task: Annotated[RecallTask, tyro.conf.arg(name="")] = field(
        default_factory=MqarRecall
    )
    layers: Names = ("gated_delta_net", "linear_attention", "attention")
    """Registered names, as `memzoo list` shows them, or layers from outside:
    my_layer.py:MyLayerConfig."""
    ablate: str | None = None
    """Compare a layer with variants that each lack one of its parts, instead of
    `layers`: titans_lmm, titans_mac, titans_mal, mixture_of_memories."""
    repeat_context: Integers = (1,)
    """Times a sequence is read before it is answered; several values are compared."""
    repeat_question: bool = True
    """Repeat the question too, as published; otherwise only the context."""
    prefix: bool = True
    """Let layers that accept a prefix read the context non-causally."""
    width: Integers = (64,)
    """Size of the residual stream; several values give several state sizes."""
    depth: int = 2
    """Number of blocks."""
    num_heads: int = 1
    """Number of heads of every layer."""
    head_size: int | None = None
    """Size of a key, and of a value in a head; None: width / num_heads."""
    learning_rates: Floats = (3e-3, 1e-2)
    """Peak learning rates; the page reports the one with the best mean over seeds."""
    seeds: Integers = (0, 1, 2)
    """Seeds of parameters and data."""
    steps: int = 1500
    """Most optimizer steps of each training."""
    batch_size: int = 64
    """Sequences per step."""
    evaluate_every: int = 100
    """Optimizer steps between evaluations."""
    evaluation_examples: int = 512
    """Sequences per evaluation."""
    stop_at: float = 0.99
    """Accuracy at which a training ends early."""
    name: str = "recall"
    """Name of the sweep's folder in the output folder."""
    output: Path = Path("runs")
    """Folder of sweeps."""
    json: bool = False
    """Print the rows of results.json instead of tables."""

    def __post_init__(self) -> None:
        check_counts(self, _COUNTS)
        if self.ablate is not None and self.layers != type(self).layers:
            raise InputError(
                f"ablate is {self.ablate!r} and layers is {self.layers}; leave one of "
                "them out"
            )
        for name in AXES:
            check_tuple(name, getattr(self, name))
        check_tuple("layers", self.compared)
        for layer in self.compared if self.head_size is not None else ():
            if compared_layer(layer).sets_head_size:
                raise InputError(
                    f"head_size is {self.head_size}; leave it out, {layer} sets its own"
                )
        check_name(self.name)
        for job in self.jobs():
            self.settings(job)

    @property
    def directory(self) -> Path:
        """Return the folder of the sweep and its trainings."""
        return self.output / self.name

    @property
    def compared(self) -> tuple[str, ...]:
        """Return the names of the layers, or of the variants of the ablated layer."""
        layers = self.layers if self.ablate is None else variants(self.ablate)
        return tuple(compared_layer(layer).name for layer in layers)

    @property
    def read_again_text(self) -> str:
        """Return which part of a sequence is repeated, in words."""
        if self.repeat_question:
            return "question included"
        return "context only"

    def jobs(self) -> list["Job"]:
        """Return all trainings, seeds last, so that a sweep covers everything once
        first."""
        return [
            Job(
                layer=layer,
                training=training,
                repeat_context=times,
                width=width,
                learning_rate=learning_rate,
                seed=seed,
            )
            for seed in self.seeds
            for training in self.task.trainings()
            for times in self.repeat_context
            for width in self.width
            for learning_rate in self.learning_rates
            for layer in self.compared
        ]

    def experiment(self, job: "Job") -> ExperimentConfig:
        """Return the full experiment of one training."""
        compared = compared_layer(job.layer)
        size = job.width, self.num_heads, self.head_size
        task: Any = job.training.task
        if "seed" in {each.name for each in dataclasses.fields(task)}:
            task = dataclasses.replace(task, seed=job.seed)
        # A window as long as the sequence would be plain attention.
        layer = with_window(compared.config(*size), max(1, task.length // 4))
        base = mqar_experiment(
            layer,
            "-".join(job.place.parts).replace("_", "-"),
            task=task,
            width=job.width,
            depth=self.depth,
            learning_rate=job.learning_rate,
            steps=self.steps,
        )
        task = repeat_context(task, job.repeat_context, self.repeat_question)
        has_context = context_length(task) is not None
        if self.prefix and has_context and compared.reads_prefix(*size):
            task = PrefixConfig(task=task, mask_share=0.0)
        return dataclasses.replace(
            base,
            task=task,
            seed=job.seed,
            batch_size=self.batch_size,
            evaluate_every=self.evaluate_every,
            evaluation_examples=self.evaluation_examples,
            stop_at_accuracy=self.stop_at,
        )

    def settings(self, job: "Job") -> list[dict[str, Any]]:
        """Return every setting that one training, with its readings, is measured under.

        The settings of readings have the split `test`.
        """
        experiment = self.experiment(job)
        return [*kinds_of(experiment.task)] + [
            kind | {"split": "test"}
            for reading in self.task.readings(experiment, self)
            for kind in kinds_of(reading.task)
        ]

    def meaning(self) -> dict[str, Any]:
        """Return what all trainings of the sweep share, as a JSON object."""
        return {
            "task": recall_task_name(self.task),
            **self.task.meaning(),
            **{
                each.name: getattr(self, each.name)
                for each in dataclasses.fields(self)
                if each.name not in (*AXES, *_NOT_MEANING)
            },
        }


def recall_task_name(task: RecallTask) -> str:
    """Return the name of the task for `--task`."""
    if isinstance(task, PlainRecall):
        return type_name(task.task)
    for name, kind in RECALL_TASKS.items():
        if type(task) is kind:
            return name
    return type_name(task)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Training of a sweep."""

    layer: str
    training: Training
    width: int
    learning_rate: float
    seed: int
    repeat_context: int = 1

    @property
    def label(self) -> str:
        """Return a description of the training."""
        rows, times = self.training.label, self.repeat_context
        return (
            f"{self.layer}, {f'{rows}, ' if rows else ''}"
            f"{f'read {times} times, ' if times > 1 else ''}width {self.width}, "
            f"learning rate {_exactly(self.learning_rate)}, seed {self.seed}"
        )

    @property
    def place(self) -> Path:
        """Return the run's folder, relative to the sweep's folder."""
        rows = self.training.folder
        setting = f"{f'{rows}-' if rows else ''}width-{self.width}"
        if self.repeat_context > 1:
            setting += f"-read-{self.repeat_context}"
        run = f"rate-{_exactly(self.learning_rate)}-seed-{self.seed}"
        return Path(compared_layer(self.layer).folder) / setting / run


def _exactly(number: float) -> str:
    """Return six digits if they are exact, else all: different numbers never share a
    name."""
    short = f"{number:g}"
    return short if float(short) == number else repr(number)
