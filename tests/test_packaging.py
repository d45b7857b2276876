"""What is installed is what is in the tree."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGE_DIR = PROJECT["tool"]["setuptools"]["package-dir"]


def test_every_package_of_the_tree_is_listed():
    found = {
        "memzoo" if path == ROOT / "memzoo" else "memzoo." + ".".join(parts)
        for top in ("memzoo", *(Path(p).parts[0] for p in PACKAGE_DIR.values()))
        for init in (ROOT / top).rglob("__init__.py")
        for path in [init.parent]
        for parts in [path.relative_to(ROOT).parts]
    }
    assert found == set(PROJECT["tool"]["setuptools"]["packages"])
    assert found == set(PACKAGE_DIR)


def test_constraints_hold_pins_without_addresses():
    for path in (ROOT / "constraints").glob("*.txt"):
        for line in path.read_text().splitlines():
            assert re.fullmatch(r"[A-Za-z0-9_.\-]+==[A-Za-z0-9_.+!]+", line), line


def test_constraints_pin_every_dependency():
    names = [
        re.match(r"[A-Za-z0-9_\-]+", dependency).group().lower().replace("_", "-")
        for dependency in PROJECT["project"]["dependencies"]
    ]
    for version in ("py311", "py312"):
        text = (ROOT / "constraints" / f"{version}.txt").read_text()
        pinned = {
            line.split("==")[0].lower().replace("_", "-") for line in text.splitlines()
        }
        assert set(names) <= pinned


def test_relative_imports_inside_the_package():
    """Absolute ones would make two worlds for type checkers."""
    for package in PACKAGE_DIR.values():
        for path in (ROOT / package).rglob("*.py"):
            if path.name.endswith("torch.py"):
                continue
            assert not re.search(
                r"^\s*(from|import) memzoo\b", path.read_text(), re.MULTILINE
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
