"""Data sets of TensorFlow Datasets, without TensorFlow."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from memzoo.data import FolderConfig, TfdsConfig
from memzoo.data.task import SPLITS, DataError, fingerprint
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
    """Return a data set that a process without TensorFlow has built and read."""
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
    def size(train, max_bytes=None):
        config = TfdsConfig(
            name="text_folder", data_dir=data_dir, train=train, max_bytes=max_bytes
        )
        assert config.content()["bytes"] > 0
        return int(config.build("train").corpus.starts[-1])

    assert size("train") > size("train[:50%]") > 0
    assert size("train", 999) == 999
    assert size("train", 1) == 1
    assert size("train", 10**9) == size("train")
    assert size("train+test") == size("train") + size("test")
    assert size("train[:30%]+train[30%:]") == size("train[:4]+train[4:]")
    assert size("all") == size("train") + size("test") + size("validation")


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "text_folder:1.0.0"},
        {"name": "text_folder/default"},
        {"name": "text_folder/default:1.0.0", "version": "1.0.0"},
        {"name": "text_folder:1.*.*", "config": "default"},
        {"name": "TextFolder"},
        {"name": "text_folder", "version": "1.*.*"},
    ],
)
def test_a_name_in_the_longer_form_is_the_same_data(data_dir: str, fields: dict):
    long = TfdsConfig(**fields, data_dir=data_dir)
    short = TfdsConfig(name="text_folder", data_dir=data_dir)
    assert long.content() == short.content()


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
        (
            {"train": "tr[:9%]"},
            r"'tr\[:9%\]' of .* is not a split \(Unknown split 'tr'\. Should be one of "
            r"\['.*'\]\); write it as TFDS does, such as",
        ),
        (
            {"train": "train[a:b]"},
            r"'train\[a:b\]' of .* is not a split \(Unrecognized split format: "
            r".*splits\)",
        ),
        ({"train": "all[:3]"}, r"of .* is not a split \('all' does not support slice"),
        (
            {"train": ""},
            r"'' of .* is not a split \(.*; write it as TFDS does, such as",
        ),
        ({"train": "train[:999]"}, r"Requested slice \[:999\] incompatible with "),
        ({"train": "train[:0]"}, r"'train\[:0\]' of .* holds no records; choose a"),
        ({"train": "train[5:2]"}, r"'train\[5:2\]' of .* holds no records; choose a"),
        ({"name": "text_folder:2.0.0"}, r"'2.0.0' \(there: 1.0.0\); set version"),
        ({"name": "text_folder:1"}, r"called 'text_folder:1' \(there: text_folder\)"),
        ({"name": "us:text_folder"}, r"called 'us:text_folder' \(there: text_folder\)"),
        ({"name": "../text_folder"}, r"called '../text_folder' \(there: text_folder\)"),
        (
            {"name": "text_folder:1.0.0", "version": "2.0.0"},
            "name is 'text_folder:1.0.0' and version is '2.0.0'; give one of the two",
        ),
        ({"name": "text_folder/a=1"}, "; a is not part of a prepared data set's name"),
    ],
)
def test_what_is_missing_is_named_with_what_is_there(
    data_dir: str, fields: dict, message: str
):
    config = TfdsConfig(**{"name": "text_folder", "data_dir": data_dir, **fields})
    with pytest.raises(DataError, match=message) as refusal:
        config.build("train")
    assert "\n" not in str(refusal.value)


def test_what_no_split_can_be_read_from_is_no_content(data_dir: str):
    fields = {"name": "text_folder", "data_dir": data_dir, "train": "all"}
    whole = TfdsConfig(**fields, validation="valid", test="test[:0]").content()
    assert whole["files"] == 50


def test_lines_become_records_and_names_need_not_be_utf8(tmp_path: Path):
    text = "".join(f'{{"body": "{n} lines"}}\n' for n in range(40))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text(text)
    name = os.path.join(os.fsencode(tmp_path), b"in", b"caf\xe9.txt")
    Path(os.fsdecode(name)).write_text("text")
    shares = {"validation": 0.2, "test": 0.2, "text_field": "body"}
    build_folder_dataset(tmp_path / "in", tmp_path, pattern="*", **shares)
    records = TfdsConfig(name="text_folder", data_dir=str(tmp_path))
    files = FolderConfig(path=str(tmp_path / "in"), pattern="*", **shares)
    assert records.content()["files"] == files.content()["files"] == 41
    for split in SPLITS:
        one, other = records.build(split).corpus, files.build(split).corpus
        assert sorted(one.lengths.tolist()) == sorted(other.lengths.tolist())


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
    with pytest.raises(DataError, match=r"'text' of .* is not text; set feature"):
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


@pytest.mark.parametrize("key", ["pythonClassName", "python_class_name", "type"])
def test_a_data_set_runs_no_code_of_its_own(
    data_dir: str, tmp_path: Path, monkeypatch, key: str
):
    """TFDS would import the module of the class that features.json names."""
    shutil.copytree(data_dir, tmp_path / "sets")
    (path,) = (tmp_path / "sets").rglob("features.json")
    text = "tensorflow_datasets.core.features.text_feature.Text"
    content = path.read_text()
    assert f'"pythonClassName": "{text}"' in content
    path.write_text(
        content.replace(f'"pythonClassName": "{text}"', f'"{key}": "own_feature.Text"')
    )
    (tmp_path / "own_feature.py").write_text("raise AssertionError('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    config = TfdsConfig(name="text_folder", data_dir=str(tmp_path / "sets"))
    for read in (config.content, lambda: config.build("train")):
        with pytest.raises(DataError, match=r"names the class 'own_feature.Text', w"):
            read()
    path.write_text("{")
    with pytest.raises(DataError, match=r"features.json is not JSON .*; prepare the"):
        config.content()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dataset_info.json", b"{", "Failed to load JSON"),
        ("dataset_info.json", b"\xff\xfe", "codec can't decode"),
        ("dataset_info.json", b"[]", "Invalid version ''"),
        ("features.json", None, "Cannot restore"),
        ("features.json", b"{}", "class name must contain a dot"),
        ("*train.array_record*", None, r"open\(\) failed: No such file"),
        ("*train.array_record*", b"cut", "should be at least 64KB"),
        ("*train.array_record*", bytes(70_000), "Corrupted|magic|Riegeli"),
    ],
)
def test_a_damaged_data_set_is_named(
    data_dir: str, tmp_path: Path, name: str, content: bytes | None, message: str
):
    shutil.copytree(data_dir, tmp_path / "copy")
    (path,) = (tmp_path / "copy").rglob(name)
    path.unlink() if content is None else path.write_bytes(content)
    config = TfdsConfig(name="text_folder", data_dir=str(tmp_path / "copy"))
    with pytest.raises(
        DataError, match=rf"/1.0.0 cannot be read \(.*({message})"
    ) as it:
        config.build("train")
    assert "\n" not in str(it.value) and str(it.value).endswith("data set again")


def test_nothing_is_built_over_a_data_set(texts: Path, data_dir: str):
    with pytest.raises(DataError, match="exists already; remove it, or name another"):
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
