"""What is installed is what is in the tree."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]
TOPS = ("models", "train", "data", "configs", "evals", "benchmarks")


def test_every_package_of_the_tree_is_listed():
    found = {
        ".".join(("memzoo", *init.parent.relative_to(ROOT).parts))
        for top in TOPS
        for init in (ROOT / top).rglob("__init__.py")
    }
    assert found | {"memzoo"} == set(PACKAGES)


def test_the_import_name_holds_every_top_level_folder():
    """Editors follow these links; a Python file never names them."""
    assert os.readlink(ROOT / "src" / "memzoo") == "../memzoo"
    for top in TOPS:
        assert os.readlink(ROOT / "memzoo" / top) == f"../{top}"
    links = {p.name for p in (ROOT / "memzoo").iterdir() if p.is_symlink()}
    assert links == set(TOPS)


@pytest.mark.slow
def test_wheel_of_the_tree_wheel_of_the_sdist_and_the_tree_hold_the_same(tmp_path):
    build = [sys.executable, "-m", "build", "--outdir"]
    for name, kind in (("both", []), ("wheel", ["--wheel"])):
        subprocess.run([*build, tmp_path / name, *kind, ROOT], check=True)
    held = []
    for name in ("both", "wheel"):
        [wheel] = (tmp_path / name).glob("*.whl")
        names = zipfile.ZipFile(wheel).namelist()
        held.append({n for n in names if not n.startswith("memzoo-")})
    assert held[0] == held[1]
    tree = {
        str(Path("memzoo", path.relative_to(ROOT if top != "memzoo" else ROOT / top)))
        for top in (*TOPS, "memzoo")
        for path in (ROOT / top).rglob("*.py")
        if not (top == "memzoo" and path.parent != ROOT / top)
    }
    assert tree == {n for n in held[0] if n.endswith(".py")}
    assert "memzoo/py.typed" in held[0]


def test_constraints_hold_pins_without_addresses():
    for path in (ROOT / "constraints").glob("*.txt"):
        for line in path.read_text().splitlines():
            assert re.fullmatch(r"[A-Za-z0-9_.\-]+==[A-Za-z0-9_.+!]+", line), line


def test_constraints_pin_every_dependency():
    names = [
        re.match(r"[A-Za-z0-9_\-]+", dependency).group().lower().replace("_", "-")
        for dependency in PROJECT["project"]["dependencies"]
    ]
    for version in ("py311", "py312", "py313"):
        text = (ROOT / "constraints" / f"{version}.txt").read_text()
        pinned = {
            line.split("==")[0].lower().replace("_", "-") for line in text.splitlines()
        }
        assert set(names) <= pinned


def test_relative_imports_inside_the_package():
    """Absolute ones would make two worlds for type checkers.

    `memzoo.errors` is absolute everywhere: it stands below all folders.
    """
    for top in (*TOPS, "memzoo"):
        for path in (ROOT / top).rglob("*.py"):
            if path.name.endswith("torch.py"):
                continue
            assert not re.search(
                r"^\s*(from|import) memzoo\b(?!\.errors import)",
                path.read_text(),
                re.MULTILINE,
            ), path


def test_layers_import_downward_only():
    order = {"models/ops": 0, "models": 1, "data": 1, "configs": 2}
    for package, level in order.items():
        for path in (ROOT / package).glob("*.py"):
            for dots, name in re.findall(
                r"^from (\.+)(\w*)", path.read_text(), re.MULTILINE
            ):
                ups = len(dots) - len(Path(package).parts)
                if ups > 0 and name:
                    assert order.get(name, 9) <= level, (path, name)
