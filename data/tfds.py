"""Text corpora in TensorFlow Datasets' folders, read and written without TensorFlow."""

import contextlib
import functools
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from . import corpus
from .corpus import Corpus
from .task import SPLITS, DataError, Split
from .text import BytesConfig, PackedText

# The name of every data set that `build_folder_dataset` writes.
FOLDER_DATASET = "text_folder"
_VERSION = "1.0.0"
_INFO = "dataset_info.json"


@dataclass(frozen=True, kw_only=True)
class TfdsConfig(BytesConfig):
    """A text data set that TensorFlow Datasets has prepared, by its name.

    It is read record by record, as array_record files; nothing is downloaded and
    TensorFlow is not needed.

    Attributes:
        name: the data set, such as `wiki40b`, or `text_folder`.
        config: its config; `None`: the only one.
        version: its version; `None`: the latest that is there.
        data_dir: where data sets are. `None`: `$TFDS_DATA_DIR`, or
            `~/tensorflow_datasets`. Its place does not count as data.
        feature: the feature that holds the text.
        train: the training split in the data set's own words, such as `train[:90%]`.
        validation: the validation split.
        test: the test split.
    """

    task_name: ClassVar[str] = "tfds"
    data_version: ClassVar[int] = 1

    name: str = ""
    config: str | None = None
    version: str | None = None
    data_dir: str | None = field(default=None, metadata={"changes_data": False})
    feature: str = "text"
    train: str = "train"
    validation: str = "validation"
    test: str = "test"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.name:
            raise ValueError("name is empty; set it to a data set's name")

    def build(self, split: Split) -> PackedText:
        """One split of the task.

        Raises:
            DataError: no such data set, split or feature; or it is stored otherwise.
        """
        return PackedText(self, split, Corpus.of(self._records(split)))

    def content(self) -> dict[str, int | str]:
        """Number and bytes of the records of all splits, and their digest.

        Of records, not of files: two builds of the same records differ in their files.
        """
        folder = _dataset_folder(self)
        there = _builder(str(folder)).info.splits
        records = [
            (split, text)
            for split in SPLITS
            if _base(self.split_name(split)) in there
            for text in self._records(split)
        ]
        return corpus.digest(records)

    def split_name(self, split: Split) -> str:
        """The split in the data set's own words."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[
            split
        ]

    def _records(self, split: Split) -> list[bytes]:
        folder = _dataset_folder(self)
        stamp = (folder / _INFO).stat().st_mtime_ns
        name = self.split_name(split)
        return _read(str(folder), stamp, name, self.feature, self.max_bytes)


def build_folder_dataset(
    path: str | Path,
    data_dir: str | Path,
    *,
    config: str = "default",
    pattern: str = "**/*.txt",
    validation: float = 0.05,
    test: float = 0.05,
) -> Path:
    """The folder's text files are a TFDS data set `text_folder/<config>` in `data_dir`.

    One record a file, with the features `name` and `text`, split by the files' names.

    Returns:
        The data set's folder.

    Raises:
        DataError: there is no such folder or file in it, or the data set is there.
    """
    import tensorflow_datasets as tfds

    corpus.check_shares(validation, test)
    documents: dict[str, dict[str, Path]] = {}
    for name, file in corpus.files(path, pattern):
        split = corpus.split_of(name, validation, test)
        documents.setdefault(split, {})[name] = file

    class TextFolder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """The text files of a folder."""

        name = FOLDER_DATASET
        BUILDER_CONFIGS: ClassVar = [
            tfds.core.BuilderConfig(name=config, version=_VERSION)
        ]

        def _info(self):
            text = tfds.features.Text()
            features = tfds.features.FeaturesDict({"name": text, "text": text})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in documents}

        def _generate_examples(self, split):
            for name, file in documents[split].items():
                yield name, {"name": name, "text": file.read_bytes()}

    root = Path(data_dir).expanduser()
    builder = TextFolder(config=config, data_dir=root, file_format="array_record")
    folder = Path(builder.data_dir)
    if folder.exists():
        raise DataError(f"{folder} is there already; remove it, or name another config")
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(sys.stderr):  # standard output is the caller's
        builder.download_and_prepare()
    return folder


def _dataset_folder(config: TfdsConfig) -> Path:
    """The folder of one version of a data set.

    Raises:
        DataError: it is not there; names what is, or how to build it.
    """
    place = config.data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    root = Path(place).expanduser()
    _require(
        config.name,
        _names(root),
        f"data set in {root}",
        "set data_dir, or build one with memzoo.data.tfds.build_folder_dataset",
    )
    folder = root / config.name
    if not _versions(folder):
        configs = _names(folder)
        chosen = config.config or (configs[0] if len(configs) == 1 else "")
        _require(chosen, configs, f"config of {config.name} in {root}", "set config")
        folder = folder / chosen
    elif config.config:
        _require(
            config.config, [], f"config of {config.name} in {root}", "unset config"
        )
    versions = _versions(folder)
    version = config.version or versions[-1]
    _require(version, versions, f"version of {folder}", "set version")
    return folder / version


def _names(folder: Path) -> list[str]:
    """What in a folder holds versions of a data set, or configs with versions."""
    found = [*folder.glob(f"*/*/{_INFO}"), *folder.glob(f"*/*/*/{_INFO}")]
    return sorted({path.relative_to(folder).parts[0] for path in found})


def _versions(folder: Path) -> list[str]:
    """The versions in a folder, the latest last."""
    found = [path.parent.name for path in folder.glob(f"*/{_INFO}")]
    numbers = [name for name in found if name.replace(".", "").isdigit()]
    return sorted(numbers, key=lambda name: [int(part) for part in name.split(".")])


def _require(name: str, there: list[str], what: str, remedy: str) -> None:
    """`name` is among those that are there."""
    if name not in there:
        listing = ", ".join(sorted(there)) or "none"
        raise DataError(f"no {what} is called {name!r} (there: {listing}); {remedy}")


def _builder(folder: str) -> Any:
    """Tensorflow Datasets' reader of a data set's folder."""
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(folder)


def _base(split: str) -> str:
    """The name of the split that a slice such as `train[:90%]` is taken from."""
    return split.partition("[")[0]


@functools.lru_cache(maxsize=4)
def _read(
    folder: str, stamp: int, split: str, feature: str, max_bytes: int | None
) -> list[bytes]:
    """The texts of a split, as many as fit into `max_bytes`; at least one.

    `stamp` is the time of the data set: a new one is read again.
    """
    builder = _builder(folder)
    info = builder.info
    _require(
        _base(split), list(info.splits), f"split of {folder}", "set the split's name"
    )
    _require(feature, list(info.features), f"feature of {folder}", "set feature")
    form = info.file_format.value
    if form != "array_record":
        raise DataError(
            f"{folder} is stored as {form}, which needs TensorFlow; prepare it with "
            "file_format='array_record'"
        )
    source = builder.as_data_source(split=split)
    texts: list[bytes] = []
    total = 0
    for number in range(len(source)):
        text = source[number][feature]
        if not isinstance(text, bytes):
            raise DataError(
                f"feature {feature!r} of {folder} is no text; set feature to one of "
                f"{', '.join(info.features)}"
            )
        total += len(text)
        if max_bytes is not None and total > max_bytes and texts:
            break
        texts.append(text)
    return texts
