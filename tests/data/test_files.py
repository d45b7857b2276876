"""Files below a folder: patterns, links, names, and one document per line."""

import json
import os
from pathlib import Path

import pytest

from memzoo.data.files import File, check_pattern, matching, read
from memzoo.data.task import DataError


def write(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}")


def names(root: Path, pattern: str = "**/*.txt") -> list[str]:
    return [name for name, _ in matching(root, pattern)]


def texts(root: Path, max_bytes: int | None = None, field: str = "text", **sizes: int):
    """Return the documents of the files in a folder, sorted by name."""
    for name, size in sizes.items():
        (root / name).write_bytes(b"." * size)
    files = [File.at(path.name, path) for path in sorted(root.iterdir())]
    return list(read(files, field, max_bytes))


@pytest.mark.parametrize(
    "pattern",
    ["*", "*.txt", "**/*.txt", "a/*", "a/**/*", "*/b/*.txt", "**/b/**/*.md", "./*.txt"]
    + ["**/[xy].*", "a/b/x.txt", "**/**/?.txt", "nothing/*", "**/.*", "a//b/*"],
)
def test_a_pattern_means_what_it_means_to_pathlib(tmp_path: Path, pattern: str):
    write(tmp_path, "x.txt", "z.md", "a/x.txt", "a/b/x.txt", "a/b/y.md", ".hid/x.txt")
    write(tmp_path, "c/b/d/b/e/y.md", "a/.hidden.txt", "a/X.TXT")
    expected = {
        path.relative_to(tmp_path).as_posix()
        for path in tmp_path.glob(pattern)
        if path.is_file()
    }
    found = matching(tmp_path, pattern)
    assert {name for name, _ in found} == expected and len(found) == len(expected)
    assert all(path == tmp_path / name for name, path in found)


def test_two_stars_at_the_end_are_all_files_below(tmp_path: Path):
    write(tmp_path, "a/x.txt", "a/b/y.md", "z.txt")
    assert sorted(names(tmp_path, "a/**")) == ["a/b/y.md", "a/x.txt"]


def test_only_folders_that_can_hold_a_match_are_searched(tmp_path: Path, monkeypatch):
    write(tmp_path, "x.txt", "a/x.txt", "b/c/x.txt")
    scanned = []
    scandir = os.scandir
    monkeypatch.setattr(
        os, "scandir", lambda path: scanned.append(Path(path).name) or scandir(path)
    )
    assert names(tmp_path, "*.txt") == ["x.txt"]
    assert scanned == [tmp_path.name]
    assert names(tmp_path, "b/*/x.txt") == ["b/c/x.txt"]
    assert scanned[1:] == [tmp_path.name, "b", "c"]


def test_links_are_followed(tmp_path: Path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    write(root, "x.txt")
    write(outside, "y.txt", "deep/z.txt")
    (root / "more").symlink_to(outside)
    (root / "w.txt").symlink_to(outside / "deep" / "z.txt")
    assert sorted(names(root)) == ["more/deep/z.txt", "more/y.txt", "x.txt"]
    assert sorted(names(root, "more/**/*.txt")) == ["more/deep/z.txt", "more/y.txt"]


@pytest.mark.parametrize("order", [("a", "z"), ("z", "a")])
def test_a_file_is_found_once_under_its_name_without_links(tmp_path: Path, order):
    link, real = order
    write(tmp_path, f"{real}/x.txt", f"{real}/b/y.txt")
    (tmp_path / link).symlink_to(tmp_path / real)
    (tmp_path / f"{link}.txt").symlink_to(tmp_path / real / "x.txt")
    assert sorted(names(tmp_path)) == [f"{real}/b/y.txt", f"{real}/x.txt"]
    assert names(tmp_path, f"{link}/*.txt") == [f"{link}/x.txt"]


def test_two_links_to_a_folder_are_read_once(tmp_path: Path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    write(outside, "y.txt")
    root.mkdir()
    for name in ("b", "a", "c"):
        (root / name).symlink_to(outside)
    assert names(root) == ["a/y.txt"]
    # Pattern parts that differ by folder, and a folder inside a linked one.
    write(outside, "in/y.txt")
    (root / "in").symlink_to(outside / "in")
    assert sorted(names(root)) == ["a/in/y.txt", "a/y.txt"]


def test_links_in_a_circle_end(tmp_path: Path):
    write(tmp_path, "a/x.txt", "b/y.txt")
    for here in ("a", "b"):
        for there in ("a", "b", "."):
            (tmp_path / here / f"to {there}").symlink_to(tmp_path / there)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "nothing.txt").symlink_to(tmp_path / "nowhere")
    assert sorted(names(tmp_path)) == ["a/x.txt", "b/y.txt"]
    assert sorted(names(tmp_path, "*/*/*.txt")) == ["a/to a/x.txt", "a/to b/y.txt"]


def test_links_do_not_lead_to_what_holds_the_folder(tmp_path: Path):
    write(tmp_path, "secret.txt", "root/a/x.txt", "beside/y.txt")
    (tmp_path / "root" / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "root" / "top").symlink_to("/")
    (tmp_path / "root" / "beside").symlink_to(tmp_path / "beside")
    assert sorted(names(tmp_path / "root")) == ["a/x.txt", "beside/y.txt"]
    assert names(tmp_path / "root", "a/up/*.txt") == []


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch):
    write(tmp_path, "a/x.txt", "x.txt")
    scandir = os.scandir

    def denied(path):
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DataError, match=r"/a cannot be read \(Permission denied\); f"):
        names(tmp_path)
    assert names(tmp_path, "*.txt") == ["x.txt"]


@pytest.mark.parametrize("pattern", ["/etc/*", "../*.json", "a/../../*", "..", "/"])
def test_a_pattern_stays_inside_the_folder(tmp_path: Path, pattern: str):
    write(tmp_path, "secret.json", "a/b/x.txt")
    with pytest.raises(DataError, match=r"pattern is .* leads out of the folder; set"):
        matching(tmp_path / "a", pattern)


@pytest.mark.parametrize("pattern", ["", ".", "./"])
def test_a_pattern_that_names_no_file_is_refused(pattern: str):
    with pytest.raises(DataError, match=r"pattern is .*; set it to a glob pattern, su"):
        check_pattern(pattern)


def test_a_name_that_is_no_utf8_is_a_name(tmp_path: Path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.txt")
    with open(path, "wb") as stream:
        stream.write(b"text")
    ((name, place),) = matching(tmp_path, "*.txt")
    assert os.fsencode(name) == b"caf\xe9.txt"
    assert list(read([File.at(name, place)], "text")) == [(name, b"text")]


def test_files_that_do_not_fit_are_passed_over(tmp_path: Path):
    found = texts(tmp_path, 100, a=40, b=70, c=0, d=50, e=11, f=10)
    assert [(name, len(text)) for name, text in found] == [
        ("a", 40),
        ("c", 0),
        ("d", 50),
        ("f", 10),
    ]


def test_a_huge_file_is_not_read_whole(tmp_path: Path):
    (tmp_path / "a").touch()
    os.truncate(tmp_path / "a", 2**36)
    found = texts(tmp_path, 1000, b=999)
    assert found == [("b", b"." * 999)]
    (tmp_path / "b").unlink()
    assert texts(tmp_path, 1000) == [("a", bytes(1000))]


def lines(*objects: object) -> str:
    return "".join(json.dumps(each) + "\n" for each in objects)


def test_a_line_of_json_is_a_document(tmp_path: Path):
    content = lines({"text": "one\nä", "id": 1}, {"text": ""}) + "\n  \n"
    content += json.dumps({"text": "\ud83d lone", "id": 2})
    (tmp_path / "a.jsonl").write_text("\ufeff" + content, encoding="utf-8")
    (tmp_path / "b.NDJSON").write_text(lines({"text": "b"}))
    (tmp_path / "c.json").write_text(lines({"text": "c"}))
    assert texts(tmp_path) == [
        ("a.jsonl:1", "one\nä".encode()),
        ("a.jsonl:2", b""),
        ("a.jsonl:5", b"\xed\xa0\xbd lone"),
        ("b.NDJSON:1", b"b"),
        ("c.json", b'{"text": "c"}\n'),
    ]


def test_the_text_is_in_a_field_of_ones_choice(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text(lines({"text": "no", "body": "yes"}))
    assert texts(tmp_path, field="body") == [("a.jsonl:1", b"yes")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"body": "x", "id": 1}', r"has no field 'text' \(there: 'body', 'id'\); set"),
        ("{}", r"has no field 'text' \(there: none\); set text_field to"),
        (
            json.dumps(dict.fromkeys(range(20))),
            r".* '6', '7', \.\.\.\); set text_field",
        ),
        (
            '{"text": 3}',
            "field 'text' is not a string; set text_field to the field that",
        ),
        ('{"text": null}', "field 'text' is not a string; set text_field"),
        ('"text"', r'is not a JSON object; write the text as {"text": "\.\.\."}'),
        ("plain words", r"is not JSON \(Expecting value: line 1 .*\); write one JSON"),
        ('{"text": "cut', r"is not JSON \(Unterminated string"),
        ("[" * 100_000, r"is not JSON \("),
    ],
)
def test_a_line_without_a_text_is_named(tmp_path: Path, line: str, message: str):
    (tmp_path / "a.jsonl").write_text(lines({"text": "good"}) + line + "\n")
    with pytest.raises(DataError, match=rf"/a\.jsonl, line 2:? {message}") as refusal:
        texts(tmp_path)
    assert "\n" not in str(refusal.value)


def test_a_line_that_is_no_utf8_is_named(tmp_path: Path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "caf\xe9"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl, line 1 is not JSON \('utf-8' cod"):
        texts(tmp_path)


def test_lines_are_read_as_far_as_the_bytes_go(tmp_path: Path):
    content = lines(*({"text": str(number) * 10} for number in range(5)))
    (tmp_path / "a.jsonl").write_text(content + "never read")
    size = len(content) // 5
    found = texts(tmp_path, 3 * size + 5, b=3 * size + 5 - 30)
    assert [(name, len(text)) for name, text in found] == [
        ("a.jsonl:1", 10),
        ("a.jsonl:2", 10),
        ("a.jsonl:3", 10),
        ("b", 3 * size + 5 - 30),
    ]
    assert texts(tmp_path, 7) == [("a.jsonl:1", b"0000000")]


def test_a_huge_line_is_not_read_whole(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text(lines({"text": "first"}))
    with (tmp_path / "a.jsonl").open("ab") as stream:
        stream.truncate(2**36)
    assert texts(tmp_path, 100) == [("a.jsonl:1", b"first")]
