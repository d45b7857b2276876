"""What `memzoo recall` trains and compares."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..configs.experiment import ExperimentConfig, check_name
from ..configs.presets.mqar import comparable_layer, mqar_experiment
from ..configs.serialise import near
from ..data.mqar import MqarConfig
from ..models import LAYERS


def _listed(kind: Callable[[str], Any], metavar: str) -> Any:
    """How a tuple is read from the command line: `a,b` and `a b` are the same."""
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar=metavar,
        instance_from_str=lambda words: tuple(
            kind(word) for word in ",".join(words).split(",") if word
        ),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [",".join(map(str, value))],
    )


Names = Annotated[tuple[str, ...], _listed(str, "NAME,NAME,...")]
Integers = Annotated[tuple[int, ...], _listed(int, "INT,INT,...")]
Floats = Annotated[tuple[float, ...], _listed(float, "FLOAT,FLOAT,...")]

# A sweep may grow along these; everything else is the same for all its trainings.
AXES = ("layers", "num_pairs", "width", "learning_rates", "seeds")
_NOT_MEANING = ("name", "output", "json")


@dataclass(frozen=True, kw_only=True)
class RecallConfig:
    """Train layers on recall, over learning rates and seeds, and compare them.

    A sweep that was stopped goes on where it was; one that is called again with more
    layers, pairs, widths, learning rates or seeds trains only what is missing.
    """

    layers: Names = ("gated_delta_net", "linear_attention", "attention")
    """Registered names; `memzoo list` shows them."""
    task: Literal["mqar"] = "mqar"
    """What is recalled: multi-query associative recall."""
    num_pairs: Integers = (4, 8, 16)
    """Key-value pairs in a sequence; a model is trained for each."""
    mixture: bool = False
    """Train one model on all numbers of pairs at once instead."""
    length: int = 64
    """Tokens in a sequence."""
    vocab_size: int = 1024
    width: Integers = (64,)
    """Of the model; with several, accuracy is drawn against bytes of state."""
    depth: int = 2
    """Blocks."""
    num_heads: int = 1
    learning_rates: Floats = (3e-3, 1e-2)
    """Peak learning rates; the one with the best mean over seeds is reported."""
    seeds: Integers = (0, 1, 2)
    """Of parameters and data."""
    steps: int = 1500
    """Most optimizer steps of a training."""
    batch_size: int = 64
    evaluate_every: int = 100
    """Optimizer steps between evaluations."""
    evaluation_examples: int = 512
    """Sequences in an evaluation."""
    stop_at: float = 0.99
    """Accuracy at which a training ends."""
    name: str = "recall"
    """Folder of the sweep in the output folder."""
    output: Path = Path("runs")
    json: bool = False
    """Print the rows of results.json instead of a table."""

    def __post_init__(self) -> None:
        for name in AXES:
            values = getattr(self, name)
            if not values:
                raise ValueError(f"{name} is empty; give at least one")
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names something twice: {values}; drop one")
        for layer in self.layers:
            if layer not in LAYERS:
                raise ValueError(f"layer {layer!r} is not known{near(layer, LAYERS)}")
        check_name(self.name)
        for job in self.jobs():
            self.experiment(job)

    @property
    def directory(self) -> Path:
        """Where the sweep and its trainings lie."""
        return self.output / self.name

    def jobs(self) -> list["Job"]:
        """Every training, seeds last, so that a sweep is broad before it is deep."""
        return [
            Job(
                layer=layer,
                num_pairs=num_pairs,
                width=width,
                learning_rate=learning_rate,
                seed=seed,
            )
            for seed in self.seeds
            for num_pairs in self._trained_on()
            for width in self.width
            for learning_rate in self.learning_rates
            for layer in self.layers
        ]

    def _trained_on(self) -> list[tuple[int, ...]]:
        """Numbers of pairs that one training sees."""
        return [self.num_pairs] if self.mixture else [(n,) for n in self.num_pairs]

    def experiment(self, job: "Job") -> ExperimentConfig:
        """What one training is, whole."""
        layer = comparable_layer(job.layer, job.width, self.num_heads)
        if hasattr(layer, "window"):
            # A window as long as the sequence would be plain attention.
            layer = dataclasses.replace(layer, window=max(1, self.length // 4))
        task = MqarConfig(
            vocab_size=self.vocab_size,
            length=self.length,
            num_pairs=job.num_pairs,
            seed=job.seed,
        )
        base = mqar_experiment(
            layer,
            "-".join(job.place.parts).replace("_", "-"),
            task=task,
            width=job.width,
            depth=self.depth,
            learning_rate=job.learning_rate,
            steps=self.steps,
        )
        return dataclasses.replace(
            base,
            seed=job.seed,
            batch_size=self.batch_size,
            evaluate_every=self.evaluate_every,
            evaluation_examples=self.evaluation_examples,
            stop_at_accuracy=self.stop_at,
        )

    def meaning(self) -> dict[str, Any]:
        """What all trainings of the sweep share, as a JSON object."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in (*AXES, *_NOT_MEANING)
        }


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training of a sweep."""

    layer: str
    num_pairs: tuple[int, ...]
    width: int
    learning_rate: float
    seed: int

    @property
    def label(self) -> str:
        """The training in words."""
        pairs = ", ".join(map(str, self.num_pairs))
        return (
            f"{self.layer}, {pairs} pairs, width {self.width}, learning rate "
            f"{self.learning_rate:g}, seed {self.seed}"
        )

    @property
    def place(self) -> Path:
        """Folder of the run in that of the sweep."""
        pairs = "-".join(map(str, self.num_pairs))
        setting = f"pairs-{pairs}-width-{self.width}"
        return (
            Path(self.layer) / setting / f"rate-{self.learning_rate:g}-seed-{self.seed}"
        )
