"""Names of the package, and messages about unknown names."""

import subprocess
import sys

import pytest

import memzoo


def test_every_name_is_there():
    for name in memzoo.__all__:
        assert getattr(memzoo, name) is not None
    assert set(memzoo.__all__) <= set(dir(memzoo))
    assert callable(memzoo.train)
    assert dir(memzoo.ops) == sorted(memzoo.ops.__all__)
    assert "Any" not in dir(memzoo.layers)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("from_pretrained", "it is called load here"),
        ("LanguageModels", "did you mean LanguageModel?"),
        ("zzz", "it has __version__, "),
        ("GatedDeltaNet", "it is memzoo.layers.GatedDeltaNet"),
        ("Zzz", "it has __version__, "),
    ],
)
def test_unknown_names_name_the_one_to_use(name, line):
    with pytest.raises(AttributeError, match=line):
        getattr(memzoo, name)


def test_the_package_imports_no_jax():
    code = "import sys, memzoo; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
