"""What PyTorch's process on a GPU may import, and which rows it can run."""

import ast
import sys

from memzoo.benchmarks.gpu import ROWS, WORKER
from memzoo.benchmarks.worker_gpu import EXACT


def tree():
    return ast.parse(WORKER.read_text())


def test_it_imports_nothing_that_its_environment_lacks():
    names = set()
    for node in ast.walk(tree()):
        if isinstance(node, ast.Import):
            names |= {name.name.partition(".")[0] for name in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add(str(node.module).partition(".")[0])
    assert names <= {
        *sys.stdlib_module_names,
        *("serving", "worker_torch", "numpy", "torch", "fla"),
    }


def test_every_row_of_a_peer_has_its_function():
    (table,) = (
        node.value
        for node in tree().body
        if isinstance(node, ast.Assign) and node.targets[0].id == "CONTESTANTS"
    )
    known = {ast.literal_eval(key) for key in table.keys}
    assert known == {(r.peer, r.case.operation) for r in ROWS if r.peer != "dense"}


def test_it_keeps_exact_what_ours_keeps():
    assert f"EXACT = frozenset({sorted(EXACT)})".replace("'", '"') in WORKER.read_text()
