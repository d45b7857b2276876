"""Read errors: those that tell what a path is, and those that do not."""

import errno
import os
from pathlib import Path

import pytest

from memzoo.configs.reading import (
    ReadError,
    check_readable,
    error_number,
    readable,
    unreadable,
)

UNREADABLE = {
    errno.EACCES: "fix its permissions",
    errno.EPERM: "fix its permissions",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENOMEM: "free some memory and start the command again",
    errno.EIO: "start the command again once it can be read",
    errno.ESTALE: "start the command again once it can be read",
}
TELLING = [errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL]

# TensorStore's message, with what Orbax adds to it.
DENIED = (
    'PERMISSION_DENIED: Error reading shard entry {0, 0}/{1, 1} in "embedding/c/0/0" '
    'in OCDBT database at local file "/run/10/params/": Failed to open: '
    '"/run/10/params/d/6884": Permission denied [tensorstore_spec=\'{\\"a\\": 1}\'] '
    "[os_error_code='13']"
)
MISSING = (
    'NOT_FOUND: Failed to open: "/run/10/params/d/6884": No such file or directory '
    "[os_error_code='2']"
)


def fail(number, *name):
    raise OSError(number, os.strerror(number), *name)


@pytest.mark.parametrize("number", UNREADABLE)
def test_errors_that_tell_nothing_name_the_file_and_the_remedy(number):
    for name, expected in (((), "a/b"), (("c/d",), "c/d")):
        with pytest.raises(ReadError) as refusal, readable("a/b"):
            fail(number, *name)
        assert str(refusal.value) == (
            f"cannot read {expected}: {os.strerror(number)}; {UNREADABLE[number]}"
        )
        assert refusal.value.exit_code == 1


@pytest.mark.parametrize("number", TELLING)
def test_errors_that_tell_what_is_there_stay_what_they_are(number):
    with pytest.raises(OSError, match=os.strerror(number)), readable("a"):
        fail(number)
    assert unreadable(OSError(number, ""), "a") is None


def test_too_little_memory_is_no_damage():
    with pytest.raises(ReadError, match="a: Cannot allocate memory"), readable("a"):
        raise MemoryError


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (ValueError(DENIED), errno.EACCES),
        (ValueError(MISSING), errno.ENOENT),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9"), errno.ENOMEM),
        (RuntimeError("can't start new thread"), errno.EAGAIN),
        (ValueError("DATA_LOSS: Digest mismatch"), None),
        (FileNotFoundError("Metadata file does not exist"), None),
    ],
)
def test_numbers_in_words(error, number):
    assert error_number(error) == number


def test_a_cause_counts_and_names_its_file():
    try:
        try:
            raise ValueError(DENIED)
        except ValueError as error:
            raise KeyError("incompatible handler") from error
    except KeyError as error:
        failed = unreadable(error, "/run/10")
    assert str(failed) == (
        "cannot read /run/10/params/d/6884: Permission denied; fix its permissions"
    )
    assert unreadable(ValueError(MISSING), "/run/10") is None


def test_a_folder_is_read_to_its_end(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("text")
    (tmp_path / "a" / "b" / "round").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "nowhere").symlink_to(tmp_path / "missing")
    check_readable(tmp_path)
    check_readable(tmp_path / "missing")
    before = Path.open

    def opened(path, *arguments):
        if path.name == "file":
            fail(errno.EIO)
        return before(path, *arguments)

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(ReadError, match=r"a/b/file: Input/output error; start"):
        check_readable(tmp_path)
