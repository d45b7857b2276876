"""Task wrapper that reads the context as a prefix and masks some of it in training."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from memzoo.errors import InputError

from . import counter
from .batch import Batch
from .mqar import MqarConfig
from .repeat import (
    context_length,
    nested_fingerprint,
    repeat_context,
    task_label,
)
from .task import SPLITS, Config, Setting, Split, Task, chance_of, has_split, kinds_of


class Masking(NamedTuple):
    """Loss of masked tokens, added to that of next tokens.

    Attributes:
        token: token that replaces a masked one.
        weight: weight of the mean masked-token loss; the next-token loss has weight 1.
        divide: whether to divide by the sum of both weights.
    """

    token: int
    weight: float
    divide: bool


# Numbers of the streams; golden values in the tests depend on them.
_MASK, _MASKED_ROWS = range(2)


@dataclass(frozen=True, kw_only=True)
class PrefixConfig:
    """Rows of another task, with the context read as a prefix (arXiv 2407.05483).

    The prefix of a document is its task's context or, in text, a share of its tokens.
    In the training split, every prefix token but the last is masked with probability
    `mask_share`: `mask_token` replaces it, and the token itself becomes the target
    there. Next tokens are targets only if they are not visible: at the last token of a
    prefix and after it.

    The loss of a batch, with means over its targets and w = `mask_weight`:

        code:   mean next-token loss + w * mean masked-token loss
        paper:  (mean next-token loss + w * mean masked-token loss) / (1 + w)

    Attributes:
        task: task whose rows are read.
        share: share of every document's tokens in a row that is its prefix, rounded
            down. None: the context of the task, which must define it.
        mask_share: probability that a prefix token is masked; 0: no masks, and no
            masked-token loss.
        mask_rows: share of the rows that have masked tokens; None: all rows, as
            published. A small model that never read a prefix without masks depends on
            them, and reads one without masks badly (docs/log.md).
        mask_weight: w.
        loss: convention of the public code or of the paper.
        seed: seed of the masks, which differ in every epoch.

    Differs from it in: prefixes of any length instead of 1,024 of 2,048 tokens; the
    first token after a prefix is a target, at the prefix's last token, which is
    therefore never masked.
    """

    task_name: ClassVar[str] = "prefix"
    data_version: ClassVar[int] = 1
    reads_prefix: ClassVar[bool] = True

    task: Config = field(default_factory=MqarConfig, metadata={"changes_data": False})
    share: float | None = None
    mask_share: float = 0.15
    mask_rows: float | None = None
    mask_weight: float = field(default=0.25, metadata={"changes_data": False})
    loss: Literal["code", "paper"] = field(
        default="code", metadata={"changes_data": False}
    )
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.task, PrefixConfig):
            raise InputError("task is a prefix task already; set its fields instead")
        if self.share is not None and not 0 < self.share < 1:
            raise InputError(f"share is {self.share}; give a number between 0 and 1")
        if self.share is None and context_length(self.task) is None:
            raise InputError(
                f"task {self.task.task_name} does not define its context; set "
                "share to the share of a document that is its prefix"
            )
        if not 0 <= self.mask_share < 1:
            raise InputError(
                f"mask_share is {self.mask_share}; give a number in [0, 1)"
            )
        if self.mask_rows is not None and not 0 < self.mask_rows < 1:
            raise InputError(
                f"mask_rows is {self.mask_rows}; give a number between 0 and 1, or "
                "None for all rows"
            )
        if self.mask_rows is not None and self.mask_share == 0:
            raise InputError(
                f"mask_rows is {self.mask_rows}, but mask_share is 0 and nothing is "
                "masked; leave one of them out"
            )
        if not (math.isfinite(self.mask_weight) and self.mask_weight >= 0):
            raise InputError(f"mask_weight is {self.mask_weight}; give 0 or more")
        if self.loss not in ("code", "paper"):
            raise InputError(f"loss is {self.loss!r}; choose 'code' or 'paper'")

    @property
    def label(self) -> str:
        """Return the task's name in results."""
        return f"{task_label(self.task)} with prefix"

    @property
    def mask_token(self) -> int:
        """Return the mask token: the first token that the task does not use."""
        return self.task.vocab_size

    @property
    def vocab_size(self) -> int:
        """Return the number of tokens, including the mask token if there are masks."""
        return self.task.vocab_size + (self.mask_share > 0)

    @property
    def length(self) -> int:
        """Return the tokens per row."""
        return self.task.length

    @property
    def chance(self) -> float | None:
        """Return the accuracy without any memory."""
        return self.task.chance

    def chance_of(self, setting: Mapping[str, Any]) -> float | None:
        """Return the accuracy without any memory on rows of one setting."""
        return chance_of(self.task, setting)

    @property
    def masking(self) -> Masking | None:
        """Return the loss of masked tokens; None without masks."""
        if self.mask_share == 0:
            return None
        return Masking(self.mask_token, self.mask_weight, self.loss == "paper")

    @property
    def kinds(self) -> tuple[Setting, ...]:
        """Return the settings of the task."""
        return kinds_of(self.task)

    def has_split(self, split: Split) -> bool:
        """Return whether the task has this split."""
        return has_split(self.task, split)

    def repeated(self, times: int, question: bool) -> "PrefixConfig":
        """Return the same config, with its task's rows read `times` times."""
        task = repeat_context(self.task, times, question)
        return dataclasses.replace(self, task=task)

    def build(self, split: Split) -> "Prefixed":
        """Build one split of the task.

        Raises:
            DataError: the data is missing.
        """
        return Prefixed(self, split)

    def content(self) -> dict[str, int | str]:
        """Return the fingerprint of the task."""
        return nested_fingerprint(self.task)


class Prefixed:
    """One split of a task with prefixes; only the training split has masks."""

    def __init__(self, config: PrefixConfig, split: Split) -> None:
        self.config = config
        self._task: Task = config.task.build(split)
        self._split = SPLITS.index(split)
        self._masks = split == "train" and config.mask_share > 0

    def __len__(self) -> int:
        return len(self._task)

    def examples(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """Return the rows with these numbers, with their prefixes marked."""
        config, batch = self.config, self._task.examples(indices)
        begins = _begins(batch)
        if config.share is None:
            prefix = _contexts(batch)
        else:
            prefix = _shares(batch, begins, config.share)
        following = np.pad(prefix & ~begins, ((0, 0), (0, 1)))[:, 1:]
        # The next token is in the same prefix and therefore visible here.
        inside = prefix & following
        batch = _without_visible_targets(batch, inside)._replace(prefix=prefix)
        if not self._masks:
            return batch
        key = counter.key(config.seed, self._split, _MASK, index=indices)
        words = counter.bits(key, config.length)
        masked = inside & (words < _below(config.mask_share))
        if config.mask_rows is not None:
            key = counter.key(config.seed, self._split, _MASKED_ROWS, index=indices)
            masked &= counter.bits(key, 1) < _below(config.mask_rows)
        return _with_masks(batch, masked, config.mask_token)

    def setting(self, index: int) -> Setting:
        """Return the setting of row `index`."""
        return self._task.setting(index)


def _below(share: float) -> np.uint64:
    """Return the bound below which this share of all 64-bit words lies."""
    return np.uint64(int(share * 2**64))


def _begins(batch: Batch) -> Bool[np.ndarray, "b t"]:
    """Return a mask of the first token of every document."""
    real = np.ones(batch.tokens.shape, bool) if batch.valid is None else batch.valid
    first = real & (np.cumsum(real, axis=1) == 1)
    return first if batch.reset is None else first | (batch.reset & real)


def _contexts(batch: Batch) -> Bool[np.ndarray, "b t"]:
    """Return a mask of the context of every row."""
    if batch.context is None:
        raise InputError("the rows have no context; set share")
    inside = np.arange(batch.tokens.shape[1]) < batch.context[:, None]
    return inside if batch.valid is None else inside & batch.valid


def _shares(
    batch: Batch, begins: Bool[np.ndarray, "b t"], share: float
) -> Bool[np.ndarray, "b t"]:
    """Return a mask of the first share of every document."""
    rows, time = begins.shape
    real = np.ones(begins.shape, bool) if batch.valid is None else batch.valid
    count = np.cumsum(real, axis=1)
    start = np.maximum.accumulate(np.where(begins, count - 1, 0), axis=1)
    document = np.cumsum(begins, axis=1) + (time + 1) * np.arange(rows)[:, None]
    lengths = np.bincount(document[real], minlength=rows * (time + 1))[document]
    return real & (count - 1 - start < np.floor(share * lengths))


def _without_visible_targets(batch: Batch, inside: Bool[np.ndarray, "b t"]) -> Batch:
    """Remove the targets that are visible in the prefix."""
    if batch.target_positions is not None:
        inside = np.take_along_axis(inside, batch.target_positions, axis=1)
    weights = np.where(inside, np.float32(0), batch.target_weights)
    return batch._replace(target_weights=weights)


def _with_masks(
    batch: Batch, masked: Bool[np.ndarray, "b t"], mask_token: int
) -> Batch:
    """Replace masked tokens by the mask token and make them targets, one per token."""
    targets, weights = batch.targets, batch.target_weights
    if batch.target_positions is not None:
        rows, columns = np.nonzero(weights)
        places = batch.target_positions[rows, columns]
        targets = np.zeros(masked.shape, np.int32)
        weights = np.zeros(masked.shape, np.float32)
        targets[rows, places] = batch.targets[rows, columns]
        weights[rows, places] = batch.target_weights[rows, columns]
    return batch._replace(
        tokens=np.where(masked, np.int32(mask_token), batch.tokens),
        targets=np.where(masked, batch.tokens, targets),
        target_positions=None,
        target_weights=np.where(masked, np.float32(1), weights),
    )
