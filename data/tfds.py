"""Text corpora in TensorFlow Datasets' folders, read and written without TensorFlow."""

import contextlib
import fnmatch
import functools
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from memzoo.errors import InputError

from . import corpus
from .corpus import Corpus
from .files import File, read
from .task import SPLITS, DataError, Split
from .text import BytesConfig, PackedText

# Name of every data set that `build_folder_dataset` writes.
FOLDER_DATASET = "text_folder"
_VERSION = "1.0.0"
_INFO = "dataset_info.json"


@dataclass(frozen=True, kw_only=True)
class TfdsConfig(BytesConfig):
    """Text data set that TensorFlow Datasets has prepared, by its name.

    Records are read one by one from array_record files. Nothing is downloaded and
    TensorFlow is not needed.

    Attributes:
        name: the data set, such as `wiki40b` or `text_folder`; also in TFDS's longer
            form, `name/config:1.0.0`.
        config: config of the data set; `None`: the one in `name`, or the only one.
        version: version, such as `1.0.0` or `1.*.*`; `None`: the one in `name`, or the
            latest one present.
        data_dir: folder of data sets. `None`: `$TFDS_DATA_DIR`, or
            `~/tensorflow_datasets`. It is not part of the fingerprint.
        feature: feature that holds the text.
        train: training split in TFDS's notation, such as `train[:90%]`, `train+test` or
            `all`.
        validation: validation split.
        test: test split.
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
            raise InputError("name is empty; set it to a data set's name")

    def build(self, split: Split) -> PackedText:
        """Build one split of the task.

        Raises:
            DataError: the data set, split or feature is missing, or the files have
                another format.
        """
        return PackedText(self, split, Corpus.of(self._records(split)))

    def content(self) -> dict[str, int | str]:
        """Return number and bytes of the records of all splits, and their digest.

        The digest is of records because two builds of the same records differ in their
        files.
        """
        folder = _dataset_folder(self)
        there = _builder(str(folder)).info.splits
        records = [
            (split, text)
            for split in SPLITS
            if _problem(there, self.split_name(split)) is None
            for text in self._records(split)
        ]
        return corpus.digest(records)

    def split_name(self, split: Split) -> str:
        """Return the data set's name for the split."""
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
    text_field: str = "text",
) -> Path:
    """Write a folder's text files as a TFDS data set `text_folder/<config>`.

    Each document is one record, with the features `name` and `text`. Documents are as
    in `FolderConfig`, and are split by their names.

    Args:
        path: the folder.
        data_dir: folder of data sets.
        config: name of the data set's config.
        pattern: glob pattern of the files.
        validation: share of the documents in the validation split.
        test: share of the documents in the test split.
        text_field: field that holds the text, in files with one JSON object per line.

    Returns:
        The data set's folder.

    Raises:
        DataError: the folder or a matching file is missing, a line has no text, or the
            data set already exists.
    """
    import tensorflow_datasets as tfds

    corpus.check_shares(validation, test)
    found = [File.at(*file) for file in corpus.files(path, pattern)]

    def documents() -> Iterator[tuple[Split, bytes, bytes]]:
        """Yield split, name and text; reads the files on every call, to hold no
        corpus.
        """
        for name, text in read(found, text_field):
            yield corpus.split_of(name, validation, test), os.fsencode(name), text

    splits = sorted({split for split, _, _ in documents()}, key=SPLITS.index)

    class TextFolder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """Text files of a folder."""

        name = FOLDER_DATASET
        BUILDER_CONFIGS: ClassVar = [
            tfds.core.BuilderConfig(name=config, version=_VERSION)
        ]

        def _info(self):
            text = tfds.features.Text()
            features = tfds.features.FeaturesDict({"name": text, "text": text})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in splits}

        def _generate_examples(self, split):
            for its_split, name, text in documents():
                if its_split == split:
                    yield name, {"name": name, "text": text}

    root = Path(os.path.expanduser(data_dir))
    builder = TextFolder(config=config, data_dir=root, file_format="array_record")
    folder = Path(builder.data_dir)
    if folder.exists():
        raise DataError(f"{folder} exists already; remove it, or name another config")
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(sys.stderr):  # standard output is the caller's
        builder.download_and_prepare()
    return folder


def _dataset_folder(config: TfdsConfig) -> Path:
    """Return the folder of one version of a data set.

    Raises:
        DataError: it is missing; lists what exists, or how to build it.
    """
    # An empty variable must not select the current folder.
    place = config.data_dir or os.environ.get("TFDS_DATA_DIR")
    root = Path(place or "~/tensorflow_datasets").expanduser()
    name, config_name, version = _parsed_name(config, root)
    _require(
        name,
        _names(root),
        f"data set in {root}",
        "set data_dir, or build one with memzoo.data.tfds.build_folder_dataset",
    )
    folder = root / name
    if not _versions(folder):
        configs = _names(folder)
        chosen = config_name or (configs[0] if len(configs) == 1 else "")
        _require(chosen, configs, f"config of {name} in {root}", "set config")
        folder = folder / chosen
    elif config_name:
        _require(config_name, [], f"config of {name} in {root}", "unset config")
    versions = _versions(folder)
    wanted = version or "*"
    fitting = [each for each in versions if fnmatch.fnmatchcase(each, wanted)]
    chosen = fitting[-1] if fitting else wanted
    _require(chosen, versions, f"version of {folder}", "set version")
    return folder / chosen


def _parsed_name(config: TfdsConfig, root: Path) -> tuple[str, str | None, str | None]:
    """Return name, config and version of a data set; reads TFDS's longer form too.

    Raises:
        DataError: the name contradicts a field, or has further arguments.
    """
    if config.name in _names(root):
        return config.name, config.config, config.version
    from tensorflow_datasets.core import naming

    try:
        parsed, given = naming.parse_builder_name_kwargs(config.name)
    except ValueError:
        parsed, given = naming.DatasetName(name="unknown", namespace="unknown"), {}
    if parsed.namespace is not None:
        return config.name, config.config, config.version
    for field_name, value in given.items():
        if field_name not in ("config", "version"):
            raise DataError(
                f"name is {config.name!r}; {field_name} is not part of a prepared data "
                "set's name, write name/config:version"
            )
        if getattr(config, field_name) not in (None, value):
            raise DataError(
                f"name is {config.name!r} and {field_name} is "
                f"{getattr(config, field_name)!r}; give one of the two"
            )
    found = [given.get(each, getattr(config, each)) for each in ("config", "version")]
    return parsed.name, *found


def _names(folder: Path) -> list[str]:
    """Return the names in a folder that hold versions of a data set, or configs with
    them."""
    found = [*folder.glob(f"*/*/{_INFO}"), *folder.glob(f"*/*/*/{_INFO}")]
    return sorted({path.relative_to(folder).parts[0] for path in found})


def _versions(folder: Path) -> list[str]:
    """Return the versions in a folder, the latest last."""
    found = [path.parent.name for path in folder.glob(f"*/{_INFO}")]
    numbers = [name for name in found if name.replace(".", "").isdigit()]
    return sorted(numbers, key=lambda name: [int(part) for part in name.split(".")])


def _require(name: str, there: list[str], what: str, remedy: str) -> None:
    """Raise DataError unless `name` is in `there`."""
    if name not in there:
        listing = ", ".join(sorted(there)) or "none"
        raise DataError(f"no {what} is called {name!r} (there: {listing}); {remedy}")


def _builder(folder: str) -> Any:
    """Return TensorFlow Datasets' reader of a data set's folder.

    Raises:
        DataError: its features would run code of other modules.
    """
    import tensorflow_datasets as tfds

    _check_classes(Path(folder) / "features.json")
    with _damage_named(folder):
        return tfds.builder_from_directory(folder)


def _check_classes(path: Path) -> None:
    """Raise DataError if a features.json names classes from outside TFDS.

    TFDS imports the module of every named class, and the folder may come from anyone.
    """
    if not path.is_file():
        return
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(
            f"{path} is not JSON ({error}); prepare the data set again"
        ) from error
    for name in _class_names(content):
        if not name.startswith("tensorflow_datasets."):
            raise DataError(
                f"{path} names the class {name!r}, whose code reading would run; "
                "prepare the data set with features of TFDS alone"
            )


def _class_names(value: Any) -> Iterator[str]:
    """Yield every class that a features.json names, in each of its forms."""
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, item in items:
        if isinstance(item, str):
            if key in ("type", "pythonClassName", "python_class_name"):
                yield item
        else:
            yield from _class_names(item)


@contextlib.contextmanager
def _damage_named(folder: str) -> Iterator[None]:
    """Turn TFDS's errors about damaged files into one line.

    Raises:
        DataError: names the folder.
    """
    try:
        yield
    except (DataError, OSError, MemoryError):
        raise
    except Exception as error:  # the readers raise errors of many kinds
        reason = " ".join(str(error).split()).rstrip(".")
        raise DataError(
            f"{folder} cannot be read ({reason}); restore its files, or prepare the "
            "data set again"
        ) from error


def _problem(splits: Any, name: str) -> str | None:
    """Return why no record of a split can be read; `None` if some can.

    TFDS parses the split.
    """
    try:
        count = splits[name].num_examples
    except (ValueError, KeyError, NotImplementedError) as error:
        # The last line is the reason; the lines above repeat the split.
        reason = str(error).splitlines()[-1].rstrip(".")
        return (
            f"is not a split ({reason}); write it as TFDS does, such as 'train[:90%]' "
            "or 'train+test'"
        )
    return "holds no records; choose a larger part" if count < 1 else None


@functools.lru_cache(maxsize=4)
def _read(
    folder: str, stamp: int, split: str, feature: str, max_bytes: int | None
) -> list[bytes]:
    """Return the texts of a split, up to `max_bytes`; the last text is cut there.

    `stamp` is the data set's time, so that a new data set is read again.
    """
    builder = _builder(folder)
    info = builder.info
    if problem := _problem(info.splits, split):
        raise DataError(f"{split!r} of {folder} {problem}")
    _require(feature, list(info.features), f"feature of {folder}", "set feature")
    form = info.file_format.value
    if form != "array_record":
        raise DataError(
            f"{folder} is stored as {form}, which needs TensorFlow; prepare it with "
            "file_format='array_record'"
        )
    with _damage_named(folder):
        return _texts(builder.as_data_source(split=split), info, feature, max_bytes)


def _texts(source: Any, info: Any, feature: str, max_bytes: int | None) -> list[bytes]:
    """Return the texts of records, up to `max_bytes`."""
    texts: list[bytes] = []
    left = max_bytes
    for number in range(len(source)):
        text = source[number][feature]
        if not isinstance(text, bytes):
            raise DataError(
                f"feature {feature!r} of {info.data_dir} is not text; set feature to "
                f"one of {', '.join(info.features)}"
            )
        texts.append(text[:left])
        if left is not None:
            left -= len(texts[-1])
            if not left:
                break
    return texts
