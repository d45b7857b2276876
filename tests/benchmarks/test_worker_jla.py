"""jax-linear-attention has a function for every row against it."""

import ast

from memzoo.benchmarks.contestant import WORKERS
from memzoo.benchmarks.rows import JAX_ROWS


def test_every_row_has_its_function():
    tree = ast.parse(WORKERS["jla"].read_text())
    (table,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and node.target.id == "OPERATIONS"
    )
    known = {ast.literal_eval(key) for key in table.keys}
    assert known == {row.case.operation for row in JAX_ROWS}
