"""Trained runs in Python: load a run, read and generate with it, train further."""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from memzoo.errors import InputError, name_to_use, with_article

from .configs.experiment import ExperimentConfig
from .configs.resolve import resolve
from .configs.variants import with_fields
from .data import TaskConfig
from .data.corpus import BEGIN
from .data.task import SPLITS, Config, Split
from .evals.document import check_bytes
from .evals.evaluate import Evaluation, evaluate
from .evals.stream import Carried, begin, read_pieces
from .generate import GenerateOptions, continuation
from .models.language_model import LanguageModel
from .models.stack_state import StackState
from .train.checkpoint import saved_steps
from .train.loop import train as train_run
from .train.runs import CHECKPOINTS, load_run

_PIECE = 512
"""Tokens that `Run.read` reads at a time."""


_OTHER_NAMES = {
    "lr": "learning_rate",
    "max_steps": "steps",
    "num_steps": "steps",
    "num_train_steps": "steps",
    "train_steps": "steps",
}
"""Names of fields in other libraries, and here."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """State of a document so far, and numbers for the bytes that were read last.

    Attributes:
        bits: bits to predict each byte from all bytes before it; `n`.
        surprise: loss of the neural memories at each byte before they write it,
            averaged over layers and heads; `n`. None: no layer reports it.
        carried: everything that the next call needs.
    """

    bits: Float32[np.ndarray, "n"]
    surprise: Float32[np.ndarray, "n"] | None
    carried: Carried

    @property
    def state(self) -> StackState:
        """State of the model after all bytes but the last."""
        return self.carried.state


@dataclasses.dataclass(frozen=True)
class Run:
    """Model of a run, loaded from a checkpoint.

    Attributes:
        folder: folder of the run.
        config: the run's experiment.
        model: an `nnx.Module`.
        step: step of the checkpoint.
    """

    folder: Path
    config: ExperimentConfig
    model: LanguageModel
    step: int

    def generate(
        self,
        prompt: str = "",
        *,
        max_tokens: int = 256,
        temperature: float = 0.8,
        top_k: int | None = None,
        seed: int = 0,
    ) -> Iterator[str]:
        """Yield the text that follows the prompt, piece by piece.

        For a recall task, prompt and answer are token numbers separated by commas.

        Args:
            prompt: text to continue.
            max_tokens: tokens to generate; text also ends at the end of a document.
            temperature: 0 takes the most probable token.
            top_k: draw from this many most probable tokens; None: from all.
            seed: seed of the draws.

        Raises:
            InputError: a value is refused.
            MemzooError: the prompt does not fit the task.
        """
        if not isinstance(prompt, str):
            raise InputError(f"prompt is {prompt!r}; give text")
        _check_whole("max_tokens", max_tokens)
        if max_tokens < 1:
            raise InputError(f"max_tokens is {max_tokens}; give 1 or more")
        options = GenerateOptions(
            prompt=prompt,
            tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            seed=seed,
        )
        return continuation(self.model, self.config.task, options)

    def evaluate(
        self,
        task: TaskConfig | None = None,
        *,
        split: Split = "validation",
        examples: int | None = None,
    ) -> Evaluation:
        """Return accuracy, loss and rows by setting.

        Args:
            task: task to evaluate on; None: the task of the training.
            split: split of the task.
            examples: number of rows; None: as many as training evaluated.

        Raises:
            InputError: a value is refused, or the model has fewer tokens than the task.
            DataError: the data is missing.
            NonFiniteError: a number is not finite.
        """
        task = self.config.task if task is None else task
        if isinstance(task, type) or not isinstance(task, Config):
            raise InputError(f"task is {task!r}; give the config of a task")
        if split not in SPLITS:
            raise InputError(f"split is {split!r}; give one of {', '.join(SPLITS)}")
        if examples is not None:
            _check_whole("examples", examples)
        known = self.model.config.vocab_size
        if task.vocab_size > known:
            raise InputError(
                f"the task has {task.vocab_size} tokens and the model {known}; give "
                f"the task a vocab_size of at most {known}"
            )
        count = self.config.evaluation_examples if examples is None else examples
        return evaluate(
            self.model,
            task,
            split=split,
            examples=count,
            batch_size=min(self.config.batch_size, count),
        )

    def read(
        self,
        text: str | bytes,
        after: Reading | None = None,
        *,
        max_length: int | None = None,
    ) -> Reading:
        """Read a text byte by byte, as a new document or as the next part of one.

        Args:
            text: at least one byte; text is read as UTF-8.
            after: the reading that the text continues; None: a new document.
            max_length: bytes of the whole document, for a state that grows with it
                (attention); None: the length of this text. Only for a new document.

        Raises:
            InputError: the text is empty, or max_length is given twice.
            MemzooError: the run does not read bytes, or the state has no room.
            NonFiniteError: a loss is not finite.
        """
        check_bytes(self.config.task)
        content = text.encode() if isinstance(text, str) else text
        if not content:
            raise InputError("the text is empty; give at least one byte")
        if after is None:
            carried = begin(self.model, BEGIN, max_length or len(content))
        elif max_length is not None:
            raise InputError(
                f"max_length is {max_length}, but the document has begun; give it to "
                "the call that begins the document"
            )
        else:
            carried = after.carried
        tokens = np.frombuffer(content, np.uint8).astype(np.int32)
        piece = min(_PIECE, len(tokens))
        pieces = list(
            read_pieces(self.model, [tokens], carried, piece=piece, surprise=True)
        )
        found = [values for values, _ in pieces]
        surprise = None
        if "surprise" in found[0]:
            surprise = np.concatenate([each["surprise"] for each in found])
        bits = np.concatenate([each["bits_per_byte"] for each in found])
        return Reading(bits, surprise, pieces[-1][1])


def load(folder: str | Path, step: int | None = None, *, trust: bool = False) -> Run:
    """Load a run's model from a checkpoint and verify its digests.

    Args:
        folder: folder of the run.
        step: step of the checkpoint; None: the newest that is not damaged.
        trust: import the modules of classes outside memzoo that the run names, which
            runs their code. Modules that you have imported already do not need it.

    Raises:
        InputError: folder is not a path, or step not a whole number.
        CheckpointError: no such run or step, or all checkpoints are damaged.
        ReadError: a file cannot be read.
    """
    _path("folder", folder, "the folder of a run")
    if step is not None:
        _check_whole("step", step)
    loaded = load_run(folder, step, report=_say, trust=trust)
    return Run(Path(folder), loaded.config, loaded.model, loaded.step)


def train(
    config: ExperimentConfig | str | Path,
    *,
    runs: str | Path = "runs",
    start_from: str | Path | None = None,
    progress: bool = True,
    **changes: Any,
) -> Run:
    """Train a config, or resume its run, and load the result.

    Args:
        config: an experiment, the name of a preset, or a file that holds one.
        runs: folder of runs; the run is written to the subfolder with its name.
        start_from: folder of a run of the same model, whose parameters to start from.
        progress: show the progress.
        changes: fields of the config to change, such as `steps=50`; a dot names a
            field of a part, as in `**{"optimizer.learning_rate": 1e-3}`.

    Raises:
        InputError: the config or a change is refused, or the run has more steps.
        MemzooError: see `memzoo.train.loop.train`.
    """
    if not isinstance(config, ExperimentConfig):
        config = resolve(
            str(_path("config", config, "an ExperimentConfig or its name"))
        )
    if start_from is not None:
        _path("start_from", start_from, "the folder of a run")
        changes["start_from"] = str(start_from)
    config = _changed(config, changes)
    folder = Path(_path("runs", runs, "a folder")) / config.name
    done = max(saved_steps(folder / CHECKPOINTS), default=0)
    if done > config.steps:
        raise InputError(
            f"steps is {config.steps}, and {folder} is at step {done}; give it another "
            f"name, {done} steps or more, or take it as it is with memzoo.load"
        )
    train_run(config, folder, progress=progress)
    return load(folder)


def _changed(config: ExperimentConfig, changes: dict[str, Any]) -> ExperimentConfig:
    """Return the config with other fields; a dot names a field of a part.

    Raises:
        InputError: there is no such field, or its value is refused.
    """
    known = sorted(field.name for field in dataclasses.fields(config))
    for name in changes:
        if name.partition(".")[0] not in known:
            remedy = _inner_name(config, _OTHER_NAMES.get(name, name)) or name_to_use(
                name, known, _OTHER_NAMES, rest="it has"
            )
            raise InputError(f"an experiment has no field {name!r}; {remedy}")
    inner = {name: value for name, value in changes.items() if "." in name}
    outer = {name: value for name, value in changes.items() if name not in inner}
    return with_fields(dataclasses.replace(config, **outer), inner)


def _inner_name(config: ExperimentConfig, name: str) -> str | None:
    """Return how to give a field of a part of the config; None: no part has it."""
    for part in dataclasses.fields(config):
        inner = getattr(config, part.name)
        if dataclasses.is_dataclass(inner) and any(
            field.name == name for field in dataclasses.fields(inner)
        ):
            return f"{part.name} has it: give **{{'{part.name}.{name}': ...}}"
    return None


def _path(name: str, value: Any, wanted: str) -> str | Path:
    """Return the value if it is text or a path, else raise InputError."""
    if not isinstance(value, str | Path):
        given = with_article(type(value).__name__)
        raise InputError(f"{name} is {given}; give {wanted}")
    return value


def _check_whole(name: str, value: Any) -> None:
    """Raise InputError unless the value is a whole number."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputError(f"{name} is {value!r}; give a whole number")


def _say(line: str) -> None:
    print(f"memzoo: {line}", file=sys.stderr)
