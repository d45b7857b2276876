"""Next-byte prediction on packed documents."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int

from memzoo.errors import InputError

from . import corpus, packing
from .batch import Batch
from .corpus import VOCAB_SIZE, Corpus, Library
from .files import check_pattern
from .task import MOST_TOKENS, SPLITS, DataError, Setting, Split


@dataclass(frozen=True, kw_only=True)
class BytesConfig:
    """What all tasks of packed bytes share.

    Tokens are the documents' bytes, and 256 before the first of each. Documents are
    packed by `packing.plan`: a row holds at most `max_documents`, each begins with a
    reset, and every byte is predicted from the bytes before it in its document.

    Attributes:
        length: tokens a row.
        seed: decides the order of documents and rows.
        max_documents: most documents, or parts of documents, in a row.
        max_bytes: read no more than this; `None`: all. The corpus is held in memory.
            Of files those that do not fit are passed over, of data sets the record
            that reaches the bound is cut; a first file that is too long is cut too.
    """

    length: int = 512
    seed: int = 0
    max_documents: int = 8
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.length < 2:
            raise InputError(f"length is {self.length}; it must be 2 or more")
        if self.length > MOST_TOKENS:
            raise InputError(f"length is {self.length}; give {MOST_TOKENS} or less")
        if self.max_documents < 1:
            raise InputError(
                f"max_documents is {self.max_documents}; it must be 1 or more"
            )
        if self.max_bytes is not None and self.max_bytes < 1:
            raise InputError(
                f"max_bytes is {self.max_bytes}; give 1 or more, or None for all"
            )

    @property
    def vocab_size(self) -> int:
        """The bytes, and the token before a document."""
        return VOCAB_SIZE

    @property
    def chance(self) -> None:
        """No such number: every byte is a target."""
        return None


@dataclass(frozen=True, kw_only=True)
class TextConfig(BytesConfig):
    """The sources of Python's standard library, which is on every machine.

    Files are split by their names: 90 % for training, 5 % each for validation and test.
    """

    task_name: ClassVar[str] = "text"
    data_version: ClassVar[int] = 1

    def build(self, split: Split) -> "PackedText":
        """One split of the task."""
        return PackedText(self, split, self._library().splits[split])

    def content(self) -> dict[str, int | str]:
        """Number and bytes of the files, and their digest."""
        return dict(self._library().content)

    def _library(self) -> Library:
        return corpus.standard_library(self.max_bytes)


@dataclass(frozen=True, kw_only=True)
class FolderConfig(BytesConfig):
    """The text files of a folder.

    A file is one document, as it is. A file that ends in `.jsonl` or `.ndjson` has a
    JSON object in every line, each a document, and is split by its lines. Links are
    followed, and a file is read once, however many lead to it.

    Attributes:
        path: the folder. Its place does not count as data, its files do.
        pattern: which files, as a glob pattern; `**` is any number of folders.
        validation: share of the files in the validation split, chosen by name; 0: there
            is none, and no evaluation. Where that leaves training or validation without
            a file, as with a single one, every file is cut by these shares instead.
        test: share of the files in the test split.
        text_field: field of the JSON objects that holds the text. The texts count as
            data, the name of the field does not.
    """

    task_name: ClassVar[str] = "folder"
    data_version: ClassVar[int] = 1

    path: str = field(default="", metadata={"changes_data": False})
    pattern: str = "**/*.txt"
    validation: float = 0.05
    test: float = 0.05
    text_field: str = field(default="text", metadata={"changes_data": False})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.path:
            raise InputError("path is empty; set it to a folder of text files")
        check_pattern(self.pattern)
        corpus.check_shares(self.validation, self.test)

    def has_split(self, split: Split) -> bool:
        """Whether the split's share is above 0."""
        return split == "train" or getattr(self, split) > 0

    def build(self, split: Split) -> "PackedText":
        """One split of the task.

        Raises:
            DataError: there is no such folder, or no file for this split.
        """
        return PackedText(self, split, self._library().splits[split])

    def content(self) -> dict[str, int | str]:
        """Number and bytes of the files, and their digest."""
        return dict(self._library().content)

    def _library(self) -> Library:
        return corpus.folder(
            self.path,
            self.pattern,
            validation=self.validation,
            test=self.test,
            max_bytes=self.max_bytes,
            text_field=self.text_field,
        )


class PackedText:
    """One split of a corpus as packed rows; every epoch packs anew."""

    def __init__(self, config: BytesConfig, split: Split, corpus: Corpus) -> None:
        """Raises DataError where the corpus has no document."""
        if len(corpus.starts) == 1:
            raise DataError(
                f"the {split} split has no documents; give the task more text, give "
                "the split a larger share of it, or choose another split"
            )
        self.config = config
        self.corpus = corpus
        self._split = SPLITS.index(split)
        self._lengths = corpus.lengths
        self._plans: dict[int, packing.Plan] = {}
        self._ends: list[int] = []  # of the epochs, counted in rows

    def __len__(self) -> int:
        """Rows of the first epoch; the next ones have about as many."""
        return len(self._plan(0).rows)

    def examples(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The rows with these numbers; all tokens but a document's last have one."""
        indices = indices.astype(np.int64)
        while not self._ends or self._ends[-1] <= indices.max(initial=0):
            self._plan(len(self._ends))
        epochs = np.searchsorted(self._ends, indices, side="right")
        order, parts = [], []
        for epoch in np.unique(epochs).tolist():
            rows = np.flatnonzero(epochs == epoch)
            begin = self._ends[epoch - 1] if epoch else 0
            order.append(rows)
            parts.append(packing.pieces(self._plan(epoch), indices[rows] - begin))
        if len(parts) == 1:
            return self._batch(parts[0])
        back = np.argsort(np.concatenate(order))
        joined = (np.concatenate(field)[back] for field in zip(*parts, strict=True))
        return self._batch(packing.Pieces(*joined))

    def setting(self, index: int) -> Setting:
        """Setting that row `index` is measured under: its length."""
        return {"length": self.config.length}

    def _batch(self, found: packing.Pieces) -> Batch:
        """Tokens and next tokens of these pieces."""
        tokens = self.corpus.tokens(found.document, found.offset)
        following = self.corpus.tokens(found.document, found.offset + found.has_next)
        return Batch(
            tokens=np.where(found.valid, tokens, np.int32(0)),
            targets=np.where(found.has_next, following, np.int32(0)),
            target_positions=None,
            target_weights=found.has_next.astype(np.float32),
            reset=found.reset,
            valid=found.valid,
        )

    def _plan(self, epoch: int) -> packing.Plan:
        """The plan of an epoch; the last two are kept."""
        if epoch not in self._plans:
            config = self.config
            made = packing.plan(
                self._lengths,
                config.length,
                config.max_documents,
                config.seed,
                self._split,
                epoch,
            )
            self._plans = dict([*list(self._plans.items())[-1:], (epoch, made)])
            if epoch == len(self._ends):
                before = self._ends[-1] if self._ends else 0
                self._ends.append(before + len(made.rows))
        return self._plans[epoch]

    def __getstate__(self) -> dict[str, Any]:
        """Plans are made again in another process."""
        return self.__dict__ | {"_plans": {}, "_ends": []}
