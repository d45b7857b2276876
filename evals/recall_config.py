"""What `memzoo recall` trains and compares."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from memzoo.errors import InputError

from ..configs.experiment import ExperimentConfig, check_name
from ..configs.presets.mqar import mqar_experiment, with_window
from ..configs.presets.needle import needle_experiment
from ..data.mqar import MqarConfig
from ..data.needle import NeedleConfig
from ..data.prefix import PrefixConfig
from ..data.repeat import repeat_context
from ..data.set_disjointness import SetDisjointnessConfig
from ..data.task import kinds_of
from .ablations import (
    check_layer_name,
    layer_by_name,
    reads_prefix,
    sets_head_size,
    variants,
)
from .length import DEPTHS, at_length, at_readings, at_sizes
from .listed import Floats, Integers, Names, Sizes

# A sweep may grow along these; everything else is the same for all its trainings.
AXES = (
    "layers",
    "num_pairs",
    "repeat_context",
    "width",
    "learning_rates",
    "seeds",
)
_NOT_MEANING = ("ablate", "name", "output", "json")
# Fields that only one of the tasks has.
_ONLY = {
    "mqar": ("num_pairs", "num_queries", "mixture", "tokens_per_pair", "read_again"),
    "needle": ("lengths", "depths", "length_examples"),
    "set_disjointness": ("sizes", "read_sizes", "size_examples"),
}
# Of the others the experiment says what is wrong.
_COUNTS = (
    "width",
    "depth",
    "num_heads",
    "head_size",
    "repeat_context",
    "length_examples",
    "size_examples",
)
# What older sweeps did without saying so.
ALWAYS = {
    "repeat_question": True,
    "prefix": True,
    "tokens_per_pair": None,
    "num_queries": None,
    "read_again": (),
    "head_size": None,
}
_LENGTH = {"mqar": 64, "needle": 256}
_VOCAB_SIZE = {"mqar": 1024, "needle": 128, "set_disjointness": 1024}


@dataclass(frozen=True, kw_only=True)
class RecallConfig:
    """Train layers on recall, over learning rates and seeds, and compare them.

    A sweep that was stopped goes on where it was; one that is called again with more
    layers, pairs, widths, learning rates or seeds trains only what is missing.
    """

    layers: Names = ("gated_delta_net", "linear_attention", "attention")
    """Registered names; `memzoo list` shows them."""
    ablate: str | None = None
    """Compare a layer with itself without one of its parts at a time, in place of
    `layers`: titans_lmm, titans_mac, titans_mal, mixture_of_memories."""
    task: Literal["mqar", "needle", "set_disjointness"] = "mqar"
    """What is recalled: many key-value pairs (multi-query associative recall), one
    long value hidden in noise, read far beyond the trained length, or the one token
    that two sets share, read in both orders and beyond the trained sizes."""
    num_pairs: Integers = (4, 8, 16)
    """mqar: key-value pairs in a sequence; a model is trained for each."""
    num_queries: int | None = None
    """mqar: pairs that are asked for in a sequence; None: all of them."""
    mixture: bool = False
    """mqar: train one model on all numbers of pairs at once instead."""
    length: int | None = None
    """Tokens in a sequence that is trained on; None: 64, or 256 for the needle. Sets
    are as long as their sizes say."""
    tokens_per_pair: int | None = None
    """mqar: sequences grow with their pairs, in place of length: 4 or more, or 3 where
    fewer pairs are asked for."""
    lengths: Integers = (256, 512, 1024, 2048, 4096, 8192, 16384)
    """needle: tokens in the sequences that are read after training."""
    depths: Floats = DEPTHS
    """needle: shares of the noise before the needle that are read after training."""
    length_examples: int = 100
    """needle: sequences that are read after training, at each length."""
    sizes: Sizes = ((1, 2), (2, 4), (4, 2), (4, 16), (16, 4))
    """set_disjointness: tokens of the first and the second set in the rows that are
    trained on, in turn."""
    read_sizes: Sizes = ((4, 16), (16, 4), (4, 64), (64, 4), (4, 256), (256, 4))
    """set_disjointness: those that are read after training."""
    size_examples: int = 512
    """set_disjointness: sequences that are read after training, at each size."""
    repeat_context: Integers = (1,)
    """Times that a sequence is read before it is answered; several are compared."""
    read_again: Integers = ()
    """mqar: times that a model which was trained on reading once is given a sequence
    after training, as published; it is compared with itself, read once."""
    repeat_question: bool = True
    """Read the question again too, as published; otherwise what is given alone."""
    prefix: bool = True
    """Layers that accept a prefix read what is given non-causally."""
    vocab_size: int | None = None
    """Number of tokens; None: 1024, or 128 for the needle."""
    width: Integers = (64,)
    """Of the model; with several, accuracy is drawn against bytes of state."""
    depth: int = 2
    """Blocks."""
    num_heads: int = 1
    head_size: int | None = None
    """Numbers of a key, and of a value in a head; None: the width over the heads."""
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
        self._check_other_tasks()
        self._check_counts()
        if self.ablate is not None and self.layers != type(self).layers:
            raise InputError(
                f"ablate is {self.ablate!r} and layers is {self.layers}; give one of "
                "the two"
            )
        for name in (*AXES, "lengths", "depths", "sizes", "read_sizes"):
            values = getattr(self, name)
            if not values:
                raise InputError(f"{name} is empty; give at least one")
            if len(set(values)) < len(values):
                raise InputError(f"{name} names something twice: {values}; drop one")
        for layer in self.compared:
            check_layer_name(layer)
        self._check_tokens_per_pair()
        if self.task == "set_disjointness" and self.length is not None:
            raise InputError(
                f"length is {self.length}; that of sets follows from sizes, leave it "
                "out"
            )
        self._check_read_again()
        for layer in self.compared if self.head_size is not None else ():
            if sets_head_size(layer):
                raise InputError(
                    f"head_size is {self.head_size}, and {layer} has one of its own; "
                    "leave it out"
                )
        check_name(self.name)
        # Most pairs first: a length that is long enough for them is so for all.
        for job in sorted(self.jobs(), key=lambda job: job.num_pairs, reverse=True):
            self.settings(job)

    @property
    def directory(self) -> Path:
        """Where the sweep and its trainings lie."""
        return self.output / self.name

    @property
    def compared(self) -> tuple[str, ...]:
        """Layers, or variants of the one that is ablated, by name."""
        return self.layers if self.ablate is None else variants(self.ablate)

    @property
    def trained_length(self) -> int:
        """Tokens in a sequence that is trained on, before it is repeated."""
        if self.task == "set_disjointness":
            return max(map(sum, self.sizes)) + 3
        return _LENGTH[self.task] if self.length is None else self.length

    def length_of(self, job: "Job") -> int:
        """Tokens in a sequence that a training sees."""
        if self.tokens_per_pair is None:
            return self.trained_length
        return self.tokens_per_pair * max(job.num_pairs)

    @property
    def task_vocab_size(self) -> int:
        """Number of tokens."""
        return _VOCAB_SIZE[self.task] if self.vocab_size is None else self.vocab_size

    def _check_other_tasks(self) -> None:
        """Refuses what another task alone would read."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for task, names in _ONLY.items():
            for name in names if task != self.task else ():
                value = getattr(self, name)
                if value != defaults[name]:
                    raise InputError(
                        f"{name} is {value}; it is for {task}, leave it out"
                    )

    def _check_counts(self) -> None:
        """Refuses numbers that count nothing, or more than any machine."""
        for name in _COUNTS:
            given = getattr(self, name)
            for value in given if isinstance(given, tuple) else (given,):
                if value is not None and value < 1:
                    raise InputError(f"{name} is {value}; give 1 or more")
                if value is not None and value >= 2**31:
                    raise InputError(f"{name} is {value}; give a number below 2^31")

    def _check_tokens_per_pair(self) -> None:
        if self.tokens_per_pair is None:
            return
        said = f"tokens_per_pair is {self.tokens_per_pair}"
        if self.length is not None or self.mixture:
            other = "mixture is True" if self.mixture else f"length is {self.length}"
            raise InputError(f"{said} and {other}; give one of the two")
        least = 4 if self.num_queries is None else 3
        if self.tokens_per_pair < least:
            raise InputError(f"{said}; give {least} or more")

    def _check_read_again(self) -> None:
        said = f"read_again is {self.read_again}"
        if self.read_again and self.repeat_context != (1,):
            raise InputError(
                f"{said} and repeat_context is {self.repeat_context}; give one of the "
                "two"
            )
        if min(self.read_again, default=2) < 2:
            raise InputError(f"{said}; give 2 or more, once is measured anyway")
        if len(set(self.read_again)) < len(self.read_again):
            raise InputError(f"{said}; it names something twice, drop one")

    def jobs(self) -> list["Job"]:
        """Every training, seeds last, so that a sweep is broad before it is deep."""
        return [
            Job(
                layer=layer,
                num_pairs=num_pairs,
                repeat_context=times,
                width=width,
                learning_rate=learning_rate,
                seed=seed,
            )
            for seed in self.seeds
            for num_pairs in self._trained_on()
            for times in self.repeat_context
            for width in self.width
            for learning_rate in self.learning_rates
            for layer in self.compared
        ]

    def _trained_on(self) -> list[tuple[int, ...]]:
        """Numbers of pairs that one training sees; none where there are no pairs."""
        if self.task != "mqar":
            return [()]
        return [self.num_pairs] if self.mixture else [(n,) for n in self.num_pairs]

    def experiment(self, job: "Job") -> ExperimentConfig:
        """What one training is, whole."""
        layer = layer_by_name(job.layer, job.width, self.num_heads, self.head_size)
        # A window as long as the sequence would be plain attention.
        layer = with_window(layer, max(1, self.length_of(job) // 4))
        shared: dict[str, Any] = {
            "width": job.width,
            "depth": self.depth,
            "learning_rate": job.learning_rate,
            "steps": self.steps,
        }
        name = "-".join(job.place.parts).replace("_", "-")
        data: dict[str, Any] = {"vocab_size": self.task_vocab_size, "seed": job.seed}
        length = self.length_of(job)
        if self.task == "needle":
            needle = NeedleConfig(length=length, **data)
            base = needle_experiment(layer, name, task=needle, **shared)
        elif self.task == "set_disjointness":
            sets = SetDisjointnessConfig(sizes=self.sizes, **data)
            base = mqar_experiment(layer, name, task=sets, **shared)
        else:
            data |= {"num_pairs": job.num_pairs, "num_queries": self.num_queries}
            mqar = MqarConfig(length=length, **data)
            base = mqar_experiment(layer, name, task=mqar, **shared)
        task = repeat_context(base.task, job.repeat_context, self.repeat_question)
        if self.prefix and reads_prefix(
            job.layer, job.width, self.num_heads, self.head_size
        ):
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
        """Everything that one training is measured under, also after its end."""
        experiment = self.experiment(job)
        own: list[dict[str, Any]] = [*kinds_of(experiment.task)]
        if self.task == "needle":
            for length in self.lengths:
                task = at_length(experiment, length, self.depths).task
                own += kinds_of(task)
        if self.read_again:
            for times in (1, *self.read_again):
                task = at_readings(experiment, times, self.repeat_question).task
                own += [kind | {"split": "test"} for kind in kinds_of(task)]
        if self.task == "set_disjointness":
            for size in self.read_sizes:
                task = at_sizes(experiment, (size,)).task
                own += [kind | {"split": "test"} for kind in kinds_of(task)]
        return own

    def meaning(self) -> dict[str, Any]:
        """What all trainings of the sweep share, as a JSON object."""
        others = [name for task in _ONLY if task != self.task for name in _ONLY[task]]
        shared = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in (*AXES, *_NOT_MEANING, *others)
        }
        for name, value in ALWAYS.items():
            if name in shared and shared[name] == value:
                del shared[name]
        return shared | {
            "length": None if self.tokens_per_pair else self.trained_length,
            "vocab_size": self.task_vocab_size,
        }


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training of a sweep."""

    layer: str
    num_pairs: tuple[int, ...]
    width: int
    learning_rate: float
    seed: int
    repeat_context: int = 1

    @property
    def label(self) -> str:
        """The training in words."""
        pairs = ", ".join(map(str, self.num_pairs))
        times = self.repeat_context
        return (
            f"{self.layer}, {f'{pairs} pairs, ' if pairs else ''}"
            f"{f'read {times} times, ' if times > 1 else ''}width {self.width}, "
            f"learning rate {_exactly(self.learning_rate)}, seed {self.seed}"
        )

    @property
    def place(self) -> Path:
        """Folder of the run in that of the sweep."""
        pairs = "-".join(map(str, self.num_pairs))
        setting = f"{f'pairs-{pairs}-' if pairs else ''}width-{self.width}"
        if self.repeat_context > 1:
            setting += f"-read-{self.repeat_context}"
        own = f"rate-{_exactly(self.learning_rate)}-seed-{self.seed}"
        return Path(self.layer) / setting / own


def _exactly(number: float) -> str:
    """Six digits where they say it all: numbers that differ never share a name."""
    short = f"{number:g}"
    return short if float(short) == number else repr(number)
