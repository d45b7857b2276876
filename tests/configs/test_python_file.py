"""Users' Python files as modules."""

import sys

import pytest

from memzoo.configs.python_file import find_modules_here, load_python
from memzoo.errors import MemzooError


def test_load_python_twice_is_one_module(tmp_path):
    path = tmp_path / "twice.py"
    path.write_text("x = object()")
    assert load_python(path).x is load_python(path).x
    assert sys.modules["twice"] is load_python(path)


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        (
            "json.py",
            "",
            "would hide the module 'json', which is already loaded; rename",
        ),
        (
            "bad_one.py",
            "x = 1\n1 / 0",
            r"bad_one.py, line 2, cannot be imported: ZeroDiv",
        ),
        ("bad_two.py", "x =", r"bad_two.py cannot be imported: SyntaxError"),
        ("none.txt", "", "none.txt is not a Python file; give one that exists"),
    ],
)
def test_what_is_no_module_is_refused(tmp_path, name, body, said):
    path = tmp_path / name
    path.write_text(body)
    with pytest.raises(MemzooError, match=said):
        load_python(path)


def test_the_current_folder_comes_last_and_once():
    find_modules_here()
    find_modules_here()
    assert sys.path[-1] == "" and sys.path.count("") == 1
