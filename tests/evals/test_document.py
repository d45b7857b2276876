"""Sources of a document's bytes."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from memzoo.data.mqar import MqarConfig
from memzoo.data.prefix import PrefixConfig
from memzoo.data.text import FolderConfig, TextConfig
from memzoo.errors import MemzooError
from memzoo.evals.document import check_bytes, of_files, of_task


def text_of(document):
    return b"".join(bytes(part) for part in document.parts)


@pytest.fixture
def files(tmp_path):
    texts = {"a.txt": b"abc" * 50_000, "b.txt": b"", "c.txt": b"xyz"}
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
    return [str(tmp_path / name) for name in texts], b"".join(texts.values())


def test_files_are_read_end_to_end(files):
    names, text = files
    document = of_files(names)
    assert (document.name, document.total) == ("a.txt+b.txt+c.txt", len(text))
    assert text_of(document) == text


@pytest.mark.parametrize("most", [5, 65_536, 150_001, 10**6])
def test_a_document_can_be_cut_off(files, most):
    names, text = files
    document = of_files(names).first(most)
    assert document.total == min(most, len(text))
    assert text_of(document) == text[:most]
    assert of_files(names).first(None).total == len(text)


def test_the_standard_input_has_no_known_end(files, monkeypatch):
    names, _ = files
    stand_in = SimpleNamespace(buffer=io.BytesIO(b"from a pipe"))
    monkeypatch.setattr(sys, "stdin", stand_in)
    document = of_files([names[2], "-"])
    assert (document.name, document.total) == ("c.txt+stdin", None)
    assert text_of(document.first(9)) == b"xyzfrom a"


def test_a_file_that_is_not_there_is_said_at_once(tmp_path):
    with pytest.raises(FileNotFoundError):
        of_files([str(tmp_path / "none")])


def test_the_text_of_a_task_is_one_document(tmp_path):
    for number in range(20):
        (tmp_path / f"{number}.txt").write_bytes(b"%d " % number * 10)
    task = FolderConfig(path=str(tmp_path), validation=0.4)
    document = of_task(task, "validation")
    text = text_of(document)
    assert document.name == "folder, validation"
    assert len(text) == document.total > 0
    assert np.array_equal(
        np.frombuffer(text, np.uint8), task.build("validation").corpus.text
    )


def test_other_tasks_are_refused():
    with pytest.raises(MemzooError, match="task is mqar, which is not over bytes"):
        check_bytes(MqarConfig())
    prefixed = PrefixConfig(task=TextConfig(max_bytes=100_000), share=0.5)
    with pytest.raises(
        MemzooError, match=r"task is prefix, which holds no text .* --stream FILE"
    ):
        of_task(prefixed, "train")
