"""The stubs of the layers match the configs."""

import ast
from pathlib import Path

from memzoo import layer_stubs


def test_the_stubs_are_up_to_date():
    """`make stubs` writes them."""
    path = Path(layer_stubs.__file__).with_name("layers.pyi")
    found, wanted = (
        ast.parse(text) for text in (path.read_text(), layer_stubs.stubs())
    )

    def parts(tree):
        return sorted(map(ast.unparse, tree.body))

    assert parts(found) == parts(wanted)
