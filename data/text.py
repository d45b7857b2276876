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
    """Base of all tasks of packed bytes.

    Tokens are the documents' bytes, with token 256 before each document. `packing.plan`
    packs the documents: a row holds at most `max_documents`, each begins with a reset,
    and every byte is predicted from the bytes before it in its document.

    Attributes:
        length: tokens per row.
        seed: determines the order of documents and rows.
        max_documents: most documents, or parts of documents, in a row.
        max_bytes: most bytes to read; `None`: all. The corpus is held in memory. Files
            that do not fit are skipped; in data sets, the record that reaches the limit
            is cut. A first file that is too long is cut too.
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
            raise InputError(f"max_documents is {self.max_documents}; give 1 or more")
        if self.max_bytes is not None and self.max_bytes < 1:
            raise InputError(
                f"max_bytes is {self.max_bytes}; give 1 or more, or None for all"
            )

    @property
    def vocab_size(self) -> int:
        """Return the number of tokens: 256 bytes, and the token before a document."""
        return VOCAB_SIZE

    @property
    def chance(self) -> None:
        """Return None: every byte is a target, so chance is undefined."""
        return None


@dataclass(frozen=True, kw_only=True)
class TextConfig(BytesConfig):
    """Sources of Python's standard library, which is on every machine.

    Files are split by their names: 90 % for training, 5 % each for validation and test.
    """

    task_name: ClassVar[str] = "text"
    data_version: ClassVar[int] = 1

    def build(self, split: Split) -> "PackedText":
        """Build one split of the task."""
        return PackedText(self, split, self._library().splits[split])

    def content(self) -> dict[str, int | str]:
        """Return number and bytes of the files, and their digest."""
        return dict(self._library().content)

    def _library(self) -> Library:
        return corpus.standard_library(self.max_bytes)


@dataclass(frozen=True, kw_only=True)
class FolderConfig(BytesConfig):
    """Text files of a folder.

    A file is one document, unchanged. A file that ends in `.jsonl` or `.ndjson` has a
    JSON object in every line, each a document, and is split by its lines. Links are
    followed. A file is read once, however many links lead to it.

    Attributes:
        path: the folder. Its path is not part of the fingerprint, its files are.
        pattern: glob pattern of the files; `**` is any number of folders.
        validation: share of the files in the validation split, chosen by name; 0: no
            validation split, and no evaluation. If that leaves training or validation
            without a file, as with a single file, every file is cut by these shares
            instead.
        test: share of the files in the test split.
        text_field: field of the JSON objects that holds the text. The texts are part of
            the fingerprint, the field's name is not.
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
        """Return whether the split's share is above 0."""
        return split == "train" or getattr(self, split) > 0

    def build(self, split: Split) -> "PackedText":
        """Build one split of the task.

        Raises:
            DataError: the folder, or a file for this split, is missing.
        """
        return PackedText(self, split, self._library().splits[split])

    def content(self) -> dict[str, int | str]:
        """Return number and bytes of the files, and their digest."""
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
    """One split of a corpus as packed rows; every epoch is packed anew."""

    def __init__(self, config: BytesConfig, split: Split, corpus: Corpus) -> None:
        """Raise DataError if the corpus has no document."""
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
        """Return the rows of the first epoch; later ones have about as many."""
        return len(self._plan(0).rows)

    def examples(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """Return the rows with these numbers; every token but a document's last has a
        target."""
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
        """Return the setting of row `index`: its length."""
        return {"length": self.config.length}

    def _batch(self, found: packing.Pieces) -> Batch:
        """Return tokens and next tokens of these pieces."""
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
        """Return the plan of an epoch; the last two are cached."""
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
        """Drop the plans, which another process makes again."""
        return self.__dict__ | {"_plans": {}, "_ends": []}
