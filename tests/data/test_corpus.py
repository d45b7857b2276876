"""Corpora: the same documents in the same order, split by name."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from memzoo.data import corpus
from memzoo.data.task import SPLITS, DataError


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    for i in range(200):
        path = tmp_path / f"part{i % 3}" / f"{i}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(f"text {i}\n".encode() * (i % 5))
    (tmp_path / "note.md").write_bytes("ä".encode())
    return tmp_path


def documents(part: corpus.Corpus) -> list[bytes]:
    return [
        part.text[a:b].tobytes()
        for a, b in zip(part.starts[:-1], part.starts[1:], strict=True)
    ]


def test_tokens_are_the_begin_token_and_the_bytes():
    part = corpus.Corpus.of([b"ab", b"", b"\xff"])
    assert part.lengths.tolist() == [3, 2]
    document = np.array([[0, 0, 0], [1, 1, 0]])
    offset = np.array([[0, 1, 2], [0, 1, 1]])
    found = part.tokens(document, offset)
    assert found.tolist() == [[256, 97, 98], [256, 255, 97]]
    assert found.dtype == np.int32


def test_a_folder_is_read_once_a_file_and_split_by_name(texts: Path):
    library = corpus.folder(texts, "**/*.txt", validation=0.2, test=0.1)
    for split in SPLITS:
        expected = []
        for path in texts.glob("**/*.txt"):
            name = path.relative_to(texts).as_posix()
            if corpus.split_of(name, 0.2, 0.1) == split and path.stat().st_size:
                expected.append(path.read_bytes())
        assert sorted(documents(library.splits[split])) == sorted(expected)
    sizes = [len(library.splits[split].lengths) for split in SPLITS]
    assert sum(sizes) == 160 and 15 < sizes[1] < 50 and 5 < sizes[2] < 35
    assert library.content["files"] == 200


def test_content_digest_is_of_names_and_bytes():
    sha = hashlib.sha256()
    for part in (b"a", b"xy", b"b", b""):
        sha.update(len(part).to_bytes(8, "little") + part)
    found = corpus.digest([("a", b"xy"), ("b", b"")])
    assert found == {"files": 2, "bytes": 2, "sha256": sha.hexdigest()}


def test_a_changed_file_changes_the_digest(texts: Path):
    before = corpus.folder(texts, "**/*.txt").content
    assert corpus.folder(texts, "**/*.txt").content == before
    path = texts / "part0" / "3.txt"
    stat = path.stat()
    path.write_bytes(path.read_bytes().replace(b"3", b"4"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    assert corpus.folder(texts, "**/*.txt").content["sha256"] != before["sha256"]


def test_a_moved_folder_is_the_same_data(texts: Path):
    before = corpus.folder(texts, "**/*.txt")
    moved = texts.rename(texts.with_name("moved"))
    after = corpus.folder(moved, "**/*.txt")
    assert before.content == after.content
    np.testing.assert_array_equal(
        before.splits["train"].text, after.splits["train"].text
    )


def test_more_files_move_no_file_to_another_split():
    names = [f"dir/{i}.py" for i in range(20_000)]
    found = [corpus.split_of(name, 0.05, 0.05) for name in names]
    shares = [found.count(split) / len(names) for split in SPLITS]
    np.testing.assert_allclose(shares, [0.9, 0.05, 0.05], atol=0.01)
    assert corpus.split_of("a.py", 0.05, 0.05) == "train"


def test_no_more_is_read_than_allowed(texts: Path):
    whole = corpus.folder(texts, "**/*.txt")
    small = corpus.folder(texts, "**/*.txt", max_bytes=1_000)
    # Many files are shorter than the rest left by the first file that did not fit.
    assert 990 < small.content["bytes"] <= 1_000
    there = iter(documents(whole.splits["train"]))
    train = documents(small.splits["train"])
    assert len(train) > 10 and all(document in there for document in train)
    assert corpus.folder(texts, "**/*.txt", max_bytes=1).content["bytes"] == 1


def test_a_name_that_is_no_utf8_is_read_as_any_other(tmp_path: Path):
    for number in range(9):
        name = b"caf\xe9 %d.txt" % number
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(b"x")
    library = corpus.folder(tmp_path, "*.txt", validation=0.4, max_bytes=8)
    assert library.content["files"] == 8
    assert len(library.splits["validation"].lengths) > 0


def test_lines_of_one_file_are_split_as_documents(tmp_path: Path):
    text = "".join(f'{{"text": "{n} ä"}}\n' for n in range(200))
    (tmp_path / "all.jsonl").write_text(text, encoding="utf-8")
    library = corpus.folder(tmp_path, "*.jsonl", validation=0.2, test=0.2)
    sizes = [len(library.splits[split].lengths) for split in SPLITS]
    assert sum(sizes) == library.content["files"] == 200 and min(sizes) > 20
    found = [text for split in SPLITS for text in documents(library.splits[split])]
    assert sorted(found) == sorted(f"{n} ä".encode() for n in range(200))
    # Added lines move no others.
    (tmp_path / "all.jsonl").write_text(text + '{"text": "new"}', encoding="utf-8")
    more = corpus.folder(tmp_path, "*.jsonl", validation=0.2, test=0.2)
    for split in SPLITS:
        before = set(documents(library.splits[split]))
        assert before <= set(documents(more.splits[split]))


def test_the_standard_library_is_there_without_its_tests():
    library = corpus.standard_library(max_bytes=300_000)
    assert 200_000 < library.content["bytes"] <= 300_000
    text = library.splits["train"].text.tobytes()
    assert b"import" in text and b"def " in text
    assert library is corpus.standard_library(max_bytes=300_000)  # not read twice


def test_a_python_without_sources_is_refused(tmp_path: Path, monkeypatch):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "a.py").write_text("pass")
    (tmp_path / "_sysconfigdata_x.py").write_text("pass")
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(DataError, match=r"no Python sources in .* task 'folder'"):
        corpus.standard_library()


def test_a_missing_folder_is_named():
    with pytest.raises(DataError, match="there is no folder /nowhere/at/all; set path"):
        corpus.folder("/nowhere/at/all", "*")


def test_a_file_is_no_folder(texts: Path):
    with pytest.raises(DataError, match=r"/note\.md is a file; set path to its folder"):
        corpus.folder(texts / "note.md", "*")


def test_a_pattern_without_files_is_named(texts: Path):
    with pytest.raises(DataError, match=r"matches '\*\.rst'; put files there, or"):
        corpus.folder(texts, "*.rst")


MANY = [(f"{i}.txt", b"%03d" % i) for i in range(100)]


def joined(parts, split):
    return b"".join(parts[split])


def test_many_files_are_split_by_name():
    parts, cut = corpus.split_documents(MANY, 0.2, 0.1)
    assert not cut
    assert parts["validation"] == [
        text for name, text in MANY if corpus.split_of(name, 0.2, 0.1) == "validation"
    ]
    assert sum(map(len, parts.values())) == 100


def test_a_lone_file_is_cut_by_bytes():
    text = bytes(range(200))
    parts, cut = corpus.split_documents([("a.txt", text)], 0.1, 0.2)
    assert cut
    assert parts == {
        "train": [text[:140]],
        "validation": [text[140:160]],
        "test": [text[160:]],
    }


@pytest.mark.parametrize("name", [f"{i}.txt" for i in range(12)])
def test_a_lone_file_gives_every_split_whatever_its_name(name):
    parts, _ = corpus.split_documents([(name, b"x" * 100)], 0.3, 0.3)
    assert [len(joined(parts, s)) for s in parts] == [40, 30, 30]


def test_few_files_of_which_none_is_for_validation_are_each_cut():
    files = [(name, b"x" * 20) for name in ("a", "b", "c")]
    assert all(corpus.split_of(name, 0.05, 0.05) == "train" for name, _ in files)
    parts, cut = corpus.split_documents(files, 0.05, 0.05)
    assert cut and parts["validation"] == [b"x"] * 3 == parts["test"]


def test_empty_files_leave_a_split_empty():
    name = next(n for n, _ in MANY if corpus.split_of(n, 0.5, 0.0) == "validation")
    other = next(n for n, _ in MANY if corpus.split_of(n, 0.5, 0.0) == "train")
    _, cut = corpus.split_documents([(name, b""), (other, b"abcd")], 0.5, 0.0)
    assert cut


def test_a_share_of_0_is_left_empty():
    name = next(n for n, _ in MANY if corpus.split_of(n, 0.0, 0.05) == "train")
    parts, cut = corpus.split_documents([(name, b"abc")], 0.0, 0.05)
    assert not cut and parts == {"train": [b"abc"], "validation": [], "test": []}


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ((float("nan"), 0.05), "validation is nan and test 0.05; give shares"),
        ((0.05, float("nan")), "test nan; give shares from 0"),
        ((float("inf"), 0.0), "give shares from 0 on"),
        ((-0.1, 0.5), "give shares from 0 on"),
        ((0.5, 0.5), "sum to less than 1: training needs the rest"),
    ],
)
def test_shares_are_shares(shares, message):
    with pytest.raises(ValueError, match=message):
        corpus.check_shares(*shares)
