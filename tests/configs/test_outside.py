"""Classes outside memzoo: whose code runs, and when."""

import sys

import pytest

from memzoo.configs.outside import (
    import_outside,
    import_typed,
    is_outside,
    names_outside,
    outside_class,
)
from memzoo.errors import MemzooError

LAYER = """
import dataclasses

@dataclasses.dataclass(frozen=True)
class Config:
    def build(self, width, rngs, *, layer_index, depth): ...

    class Inner:
        pass

def __getattr__(name):
    raise AssertionError("code of the module is run")

other = 3
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Change to a folder that is not on the path of imports."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    return tmp_path


def test_a_class_is_found_once_its_module_is_loaded(here):
    (here / "outside_layer.py").write_text(LAYER)
    with pytest.raises(ValueError, match=r"^here is of type outside_layer:Config, whi"):
        outside_class("outside_layer:Config", "here")
    assert "outside_layer" not in sys.modules and "" not in sys.path
    import_outside([{"a": {"type": "outside_layer:Config"}}], "here")
    kind = outside_class("outside_layer:Config", "here")
    assert kind is sys.modules["outside_layer"].Config


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "Nothing",
            "the module outside_layer has no Nothing; use the module's version",
        ),
        ("Config.Nothing", "the module outside_layer has no Config.Nothing; use"),
        ("Config.Inner", "Config.Inner, which is not a config; name a dataclass with"),
        ("other", "outside_layer:other, which is not a config"),
        ("other.real", "outside_layer:other.real, which is not a config"),
    ],
)
def test_what_is_no_config_is_refused_and_no_code_is_run(here, name, message):
    (here / "outside_layer.py").write_text(LAYER)
    import_outside({"type": "outside_layer:Config"}, "here")
    with pytest.raises(ValueError, match=message):
        outside_class(f"outside_layer:{name}", "here")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("import sys; sys.exit()", "SystemExit:"),
        ("class End(BaseException): ...\nraise End('now')", "End: now"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("def (", "SyntaxError: invalid syntax"),
        ("import nosuchmodule", "ModuleNotFoundError: No module named 'nosuchmodule'"),
    ],
)
def test_whatever_a_module_raises_is_one_line(here, body, reason):
    (here / "outside_wrong.py").write_text(body)
    with pytest.raises(ValueError, match="run in the folder that") as caught:
        import_outside({"layers": [{"type": "outside_wrong:X"}]}, "config")
    line = str(caught.value)
    assert line.startswith(
        "config.layers.0 is of type outside_wrong:X, which cannot be imported ("
        + reason
    )
    assert "\n" not in line


def test_a_key_does_not_break_the_line(here):
    with pytest.raises(ValueError, match=r"^config.'a\\nb'.0 is of type no_such:X"):
        import_outside({"a\nb": [{"type": "no_such:X"}]}, "config")


def test_an_interruption_of_an_import_goes_on(here):
    (here / "outside_wrong.py").write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        import_outside({"type": "outside_wrong:X"}, "config")


@pytest.mark.parametrize(
    ("name", "outside"),
    [
        ("a:X", True),
        ("a.b:X.Y", True),
        ("attention", False),
        (":X", False),
        ("a:", False),
        (".a:X", False),
        ("a:b:X", False),
        ("a b:X", False),
        ("a\n:X", False),
        ("../a:X", False),
    ],
)
def test_types_outside_have_one_form(name, outside):
    assert is_outside(name) is outside


def test_a_value_says_whether_it_names_any():
    assert names_outside({"task": {"type": "mqar"}, "layers": [{"type": "a:X"}]})
    assert not names_outside({"task": {"type": "mqar"}, "name": "a:X"})


def test_a_class_that_is_typed_is_imported_by_module_or_file(here):
    body = "from dataclasses import dataclass\n@dataclass\nclass X:\n    a: int = 1\n"
    (here / "outside_typed.py").write_text(body + "Y = 3\n")
    for text in (f"{here}/outside_typed.py:X", "outside_typed:X"):
        name, kind = import_typed(text, "layers")
        assert name == "outside_typed:X" and kind().a == 1
    for text, said in (
        ("outside_typed:Z", "layers is of type outside_typed:Z, and the module outsid"),
        (
            "outside_typed:Y",
            "layers is of type outside_typed:Y, which is not a config; n",
        ),
        ("outside_typed:", "layers is 'outside_typed:', which is not a class; give f"),
        ("no_such_typed:X", "layers is of type no_such_typed:X, which cannot be impor"),
        (
            "no_such_typed.py:X",
            "no_such_typed.py is not a Python file; give one that ex",
        ),
    ):
        with pytest.raises(MemzooError, match=f"^{said}"):
            import_typed(text, "layers")
