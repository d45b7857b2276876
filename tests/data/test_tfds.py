"""Data sets of TensorFlow Datasets, with TensorFlow absent."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from memzoo.data import FolderConfig, TfdsConfig
from memzoo.data.task import DataError, fingerprint
from memzoo.data.tfds import build_folder_dataset

BUILD = """
import sys

from importlib.machinery import PathFinder

find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: (
    None if name.partition(".")[0] == "tensorflow" else find(name, *rest)
)

from memzoo.data import TfdsConfig
from memzoo.data.tfds import build_folder_dataset
build_folder_dataset(sys.argv[1], sys.argv[2], validation=0.2, test=0.2)
task = TfdsConfig(name="text_folder", data_dir=sys.argv[2], length=32).build("train")
assert "tensorflow" not in sys.modules
print("rows", len(task))
"""


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    for i in range(50):
        (folder / f"{i}.txt").write_text(f"document {i} " * (i + 1))
    return folder


@pytest.fixture(scope="module")
def data_dir(texts: Path, tmp_path_factory) -> str:
    """A data set that a process without TensorFlow has built and read."""
    folder = str(tmp_path_factory.mktemp("built"))
    command = [sys.executable, "-c", BUILD, str(texts), folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    config = TfdsConfig(name="text_folder", data_dir=folder, length=32)
    assert done.stdout == f"rows {len(config.build('train'))}\n"
    return folder


def test_the_records_are_the_files(texts: Path, data_dir: str):
    folder = FolderConfig(path=str(texts), validation=0.2, test=0.2)
    built = TfdsConfig(name="text_folder", data_dir=data_dir)
    for split in ("train", "validation", "test"):
        files, records = folder.build(split).corpus, built.build(split).corpus
        assert sorted(files.lengths.tolist()) == sorted(records.lengths.tolist())
        assert np.sort(files.text).tolist() == np.sort(records.text).tolist()
    assert "tensorflow" not in sys.modules


def test_the_fingerprint_follows_the_records_and_not_their_place(
    texts: Path, data_dir: str, tmp_path: Path
):
    config = TfdsConfig(name="text_folder", data_dir=data_dir)
    found = fingerprint(config)
    assert found["task"] == "tfds" and found["files"] == 50
    assert found["bytes"] == sum(path.stat().st_size for path in texts.iterdir())
    assert "data_dir" not in found
    build_folder_dataset(texts, tmp_path, validation=0.2, test=0.2)
    again = TfdsConfig(name="text_folder", data_dir=str(tmp_path))
    assert fingerprint(again) == found


def test_data_dir_comes_from_the_environment(data_dir: str, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", data_dir)
    config = TfdsConfig(name="text_folder", config="default", version="1.0.0")
    assert len(config.build("test")) > 0


def test_an_empty_variable_is_not_the_current_folder(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("TFDS_DATA_DIR", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "tensorflow_datasets"
    with pytest.raises(DataError, match=f"no data set in {folder} is called 'x'"):
        TfdsConfig(name="x").build("test")


def test_a_slice_of_a_split_and_a_bound_on_bytes(data_dir: str):
    sizes = [
        TfdsConfig(
            name="text_folder", data_dir=data_dir, train=train, max_bytes=max_bytes
        )
        .build("train")
        .corpus.starts[-1]
        for train, max_bytes in [("train", None), ("train[:50%]", None), ("train", 999)]
    ]
    assert sizes[0] > sizes[1] > 0
    assert sizes[2] < 999


def test_the_latest_version_is_taken(data_dir: str, tmp_path: Path):
    for version in ("1.0.0", "10.0.0", "9.1.0"):
        folder = tmp_path / "text_folder" / version
        folder.parent.mkdir(exist_ok=True)
        folder.symlink_to(Path(data_dir) / "text_folder" / "default" / "1.0.0")
    for wanted, message in [(None, "10.0.0"), ("9.1.0", "9.1.0")]:
        config = TfdsConfig(
            name="text_folder", data_dir=str(tmp_path), version=wanted, feature="x"
        )
        with pytest.raises(DataError, match=f"no feature of .*/{message} is called"):
            config.build("train")
    with pytest.raises(DataError, match=r"no config .* is called 'a' .* unset config"):
        TfdsConfig(name="text_folder", config="a", data_dir=str(tmp_path)).build(
            "train"
        )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"name": "wiki"},
            r"called 'wiki' \(there: text_folder\); .*build_folder_data",
        ),
        ({"data_dir": "/nowhere"}, r"no data set in /nowhere .*\(there: none\)"),
        ({"config": "small"}, r"config of text_folder .* 'small' \(there: default\)"),
        ({"version": "2.0.0"}, r"'2.0.0' \(there: 1.0.0\); set version"),
        ({"feature": "body"}, r"'body' \(there: name, text\); set feature"),
        ({"train": "tr[:9%]"}, r"'tr' \(there: test, train, validation\); set the"),
    ],
)
def test_what_is_missing_is_named_with_what_is_there(
    data_dir: str, fields: dict, message: str
):
    config = TfdsConfig(**{"name": "text_folder", "data_dir": data_dir, **fields})
    with pytest.raises(DataError, match=message) as refusal:
        config.build("train")
    assert "\n" not in str(refusal.value)


def test_a_feature_that_is_no_text_is_refused(tmp_path: Path):
    import tensorflow_datasets as tfds

    class Numbers(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = "numbers"
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict({"text": np.int32})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield 0, {"text": 1}

    tfds.disable_progress_bar()
    Numbers(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    with pytest.raises(DataError, match=r"'text' of .* is no text; set feature"):
        TfdsConfig(name="numbers", data_dir=str(tmp_path)).build("train")


def test_files_that_need_tensorflow_are_refused(data_dir: str, tmp_path: Path):
    source = Path(data_dir) / "text_folder" / "default" / "1.0.0"
    target = tmp_path / "old" / "1.0.0"
    target.mkdir(parents=True)
    for path in source.glob("*.json"):
        text = path.read_text().replace("array_record", "tfrecord")
        (target / path.name).write_text(text)
    with pytest.raises(DataError, match="stored as tfrecord, which needs TensorFlow"):
        TfdsConfig(name="old", data_dir=str(tmp_path)).build("train")


def test_nothing_is_built_over_a_data_set(texts: Path, data_dir: str):
    with pytest.raises(DataError, match="is there already; remove it, or name another"):
        build_folder_dataset(texts, data_dir)


def test_a_data_set_that_was_built_anew_is_read_anew(texts: Path, tmp_path: Path):
    config = TfdsConfig(name="text_folder", data_dir=str(tmp_path / "built"))
    sizes = []
    for pattern in ("1*.txt", "2*.txt", "*.txt"):
        folder = build_folder_dataset(texts, config.data_dir, pattern=pattern)
        sizes.append(len(config.build("train").corpus.text))
        shutil.rmtree(folder)
    assert len(set(sizes)) == 3


def test_a_name_is_needed():
    with pytest.raises(ValueError, match="name is empty; set it to a data set's name"):
        TfdsConfig()
