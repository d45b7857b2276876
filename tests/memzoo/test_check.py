"""`memzoo check FILE`, on the layer of the documentation and on broken ones."""

from pathlib import Path

import pytest

from memzoo import check
from memzoo.check import check_command
from memzoo.errors import MemzooError
from memzoo.testing import LawResult

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "my_layer.py"


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")


def test_the_layer_of_the_documentation_passes(capsys):
    assert check_command(EXAMPLE) == 0
    said = capsys.readouterr().out
    assert said.startswith("MyLayerConfig\n")
    assert said.count("holds") == 11 and "broken" not in said


@pytest.fixture
def changed(tmp_path):
    """Return a function that writes the example with a change."""

    def changed(old, new, name):
        text = EXAMPLE.read_text()
        assert old in text
        path = tmp_path / f"{name}.py"
        path.write_text(text.replace(old, new))
        return path

    return changed


def test_a_broken_law_is_shown(changed, capsys, monkeypatch):
    """Other laws are still checked; the exit code is 1."""
    found = [LawResult("this one", ""), LawResult("that one", "it [is] wrong by 3")]
    monkeypatch.setattr(check, "laws", lambda config: found)
    assert (
        check_command(changed("life: float = 8.0", "life: float = 9.0", "other")) == 1
    )
    said = capsys.readouterr().out
    assert "holds  this one" in said
    assert "broken that one: it [is] wrong by 3" in said
    assert said.endswith("1 broken\n")


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ("1 / 0", "MyLayerConfig raised ZeroDivisionError: division by zero"),
        ("None", "MyLayerConfig.build returned NoneType, which is not a MemoryLayer"),
    ],
)
def test_what_cannot_be_built_is_broken(changed, capsys, made, reason):
    name = f"unbuilt_{len(made)}"
    path = changed("return MyLayer(self, width, rngs, depth)", f"return {made}", name)
    assert check_command(path) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [
        f"  broken the layer can be built, with a state: {reason}",
        "1 broken",
    ]


def test_layers_are_made_without_arguments(changed):
    path = changed("num_heads: int = 2", "num_heads: int", "required")
    with pytest.raises(
        MemzooError, match=r"MyLayerConfig cannot be made without arguments .*; give"
    ):
        check_command(path)


def test_files_without_a_layer(tmp_path):
    with pytest.raises(MemzooError, match=r"none.py is not a Python file; give one"):
        check_command(tmp_path / "none.py")
    path = tmp_path / "no_layer.py"
    path.write_text("from memzoo.models.attention import AttentionConfig")
    with pytest.raises(
        MemzooError, match=r"no_layer.py defines no layer config: .*adding-a-layer.md"
    ):
        check_command(path)


def test_a_task_is_not_checked():
    path = EXAMPLE.with_name("my_task.py")
    with pytest.raises(
        MemzooError,
        match=r"defines the task MyTaskConfig and no layer.*recall --task .*task.py:My",
    ):
        check_command(path)
