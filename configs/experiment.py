"""Schema of an experiment: one frozen dataclass from model to mesh."""

import math
import unicodedata
from dataclasses import dataclass, field
from typing import Literal, get_args

from memzoo.errors import InputError

from ..data import TaskConfig
from ..data.task import has_split
from ..models.field_types import check_types
from ..models.language_model import LanguageModelConfig

Schedule = Literal["constant", "cosine", "linear", "wsd"]

# Range of normal float32 numbers; smaller ones are treated as 0.
_TINY, _LARGE = 1.2e-38, 3.4e38

LONGEST_NAME = 200
"""Most bytes of a run's name: file systems allow 255, and temporary names are
longer.
"""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW with decoupled weight decay on projection matrices and embeddings."""

    learning_rate: float = 3e-3
    """Peak learning rate."""
    schedule: Schedule = "cosine"
    """Shape after the warm-up: constant, half a cosine, linear, or
    warm-up-stable-decay."""
    warmup_steps: int = 20
    """Optimizer steps of linear warm-up from 0."""
    decay_fraction: float = 0.2
    """wsd only: share of the steps, at the end, in which the learning rate decays."""
    final_fraction: float = 0.0
    """Learning rate at the last step, as a share of the peak."""
    beta1: float = 0.9
    """Decay of the gradients' running mean; below 1."""
    beta2: float = 0.95
    """Decay of the squared gradients' running mean; below 1."""
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float | None = 1.0
    """Clip gradients to this global norm; None does not clip."""

    def __post_init__(self) -> None:
        _positive("learning_rate", self.learning_rate)
        _positive("epsilon", self.epsilon)
        _not_negative("weight_decay", self.weight_decay)
        if self.clip_norm is not None:
            _positive("clip_norm", self.clip_norm)
        for name in ("learning_rate", "epsilon", "weight_decay", "clip_norm"):
            _float32(name, getattr(self, name))
        if self.schedule not in get_args(Schedule):
            raise InputError(
                f"schedule is {self.schedule!r}; choose one of "
                f"{', '.join(get_args(Schedule))}"
            )
        _count("warmup_steps", self.warmup_steps, 0)
        _decay("beta1", self.beta1)
        _decay("beta2", self.beta2)
        _share("decay_fraction", self.decay_fraction)
        _share("final_fraction", self.final_fraction)


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Devices along the named axes of the mesh."""

    data: int | None = None
    """Copies of the model; None: as many as the other axes allow."""
    fsdp: int = 1
    """Shards of the parameters, gathered when used; also splits the batch."""
    tensor: int = 1
    """Shards of heads, MLP width and vocabulary."""
    expert: int = 1
    """Shards of the maps that each memory of a mixture has separately, gathered when
    used; also splits the batch."""

    def __post_init__(self) -> None:
        for name in ("data", "fsdp", "tensor", "expert"):
            value = getattr(self, name)
            if value is not None:
                _count(name, value, 1)


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """Everything that determines what a training run computes."""

    name: str
    """Preset name, kebab-case; also the default name of the run."""
    model: LanguageModelConfig
    task: TaskConfig
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    steps: int = 1000
    """Optimizer steps."""
    batch_size: int = 64
    """Rows of a global batch, including all accumulated slices."""
    gradient_accumulation: int = 1
    """Number of slices of a batch, computed one after the other. Results do not change,
    except for the draws of router_noise. Slices of a mixture take one more forward
    pass."""
    seed: int = 0
    """Seed of the parameters; the task has its own seed."""
    start_from: str | None = None
    """Folder of a run of the same model; training starts from its newest parameters.
    None: random parameters."""
    log_every: int = 10
    """Optimizer steps between lines of metrics.jsonl."""
    checkpoint_every: int = 200
    """Optimizer steps between checkpoints; the last step is always saved."""
    keep_checkpoints: int = 2
    """Number of newest checkpoints to keep."""
    evaluate_every: int = 0
    """Optimizer steps between evaluations; 0: only at the end. A task without a
    validation split is never evaluated."""
    evaluation_examples: int = 512
    """Rows of the validation split that an evaluation reads."""
    stop_at_accuracy: float | None = None
    """Accuracy of an evaluation that ends the run."""
    data_workers: int = 0
    """Processes that make batches; 0: a thread of this process."""

    def __post_init__(self) -> None:
        check_name(self.name)
        for name in (
            "steps",
            "batch_size",
            "gradient_accumulation",
            "log_every",
            "checkpoint_every",
            "keep_checkpoints",
            "evaluation_examples",
        ):
            _count(name, getattr(self, name), 1)
        for name in ("evaluate_every", "data_workers"):
            _count(name, getattr(self, name), 0)
        _count("seed", self.seed, 0, bits=32)
        if self.batch_size % self.gradient_accumulation:
            raise InputError(
                f"batch_size is {self.batch_size}; give a multiple of "
                f"gradient_accumulation, {self.gradient_accumulation}, or change that"
            )
        if self.stop_at_accuracy is not None:
            _share("stop_at_accuracy", self.stop_at_accuracy)
            if not self.evaluate_every:
                raise InputError(
                    f"stop_at_accuracy is {self.stop_at_accuracy} and evaluate_every "
                    "is 0; set evaluate_every to a number of steps"
                )
        check_types(self)
        evaluates = has_split(self.task, "validation")
        if self.stop_at_accuracy is not None and not evaluates:
            raise InputError(
                f"stop_at_accuracy is {self.stop_at_accuracy} and the task has no "
                "validation split; give it a share"
            )
        if self.task.vocab_size > self.model.vocab_size:
            raise InputError(
                f"model.vocab_size is {self.model.vocab_size}; give the task's "
                f"{self.task.vocab_size} or more"
            )


def check_name(name: object) -> None:
    """Refuse a name of a run or sweep that is not a plain folder name.

    Raises:
        InputError: the name is empty, a path, an option, unprintable or too long.
    """
    remedy = "give a plain folder name, such as my-run"
    if name == "":
        raise InputError(f"name is empty; {remedy}")
    if not isinstance(name, str) or name.isspace():
        raise InputError(f"name is {name!r}; {remedy}")
    if len(name.encode("utf-8", "surrogatepass")) > LONGEST_NAME:
        raise InputError(
            f"name {name[:20]!r}... is longer than {LONGEST_NAME} bytes; {remedy}"
        )
    if set(name) & set("/\\") or name in (".", "..") or name.startswith("-"):
        raise InputError(f"name is {name!r}; {remedy}")
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        raise InputError(f"name {name!r} has control characters; {remedy}")


def _positive(name: str, value: float) -> None:
    if not _is_number(value) or not value > 0:
        raise InputError(f"{name} is {value!r}; give a number above 0")


def _not_negative(name: str, value: float) -> None:
    if not _is_number(value) or not value >= 0:
        raise InputError(f"{name} is {value!r}; give 0 or more")


def _share(name: str, value: float) -> None:
    if not _is_number(value) or not 0 <= value <= 1:
        raise InputError(f"{name} is {value!r}; give a number from 0 to 1")


def _decay(name: str, value: float) -> None:
    """Refuse a beta that rounds to 1: the bias correction would divide by 0."""
    if not _is_number(value) or not 0 <= value <= 0.9999999:
        raise InputError(f"{name} is {value!r}; give a number from 0 to 0.9999999")


def _float32(name: str, value: float | None) -> None:
    """Refuse a number that becomes 0 or infinite in the optimizer's float32."""
    if value and not _TINY <= value <= _LARGE:
        raise InputError(
            f"{name} is {value!r}, which float32 cannot hold; give a number from "
            f"{_TINY} to {_LARGE}"
        )


def _count(name: str, value: int, least: int, bits: int = 31) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}; give a whole number, {least} or more")
    if value >= 2**bits:
        raise InputError(f"{name} is {value}; give a number below 2^{bits}")


def _is_number(value: object) -> bool:
    """Return whether the value is a finite number; a user's file may assign
    anything.
    """
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
