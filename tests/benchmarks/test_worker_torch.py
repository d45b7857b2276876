import ast
import sys

from memzoo.benchmarks.contestant import WORKER_TORCH


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports from its package"
            yield str(node.module).partition(".")[0]


def test_a_peers_process_imports_nothing_that_its_environment_lacks():
    assert set(imported(WORKER_TORCH)) <= {
        *sys.stdlib_module_names,
        *("serving", "numpy", "torch", "transformers", "fla", "titans_pytorch"),
    }
    serving = WORKER_TORCH.with_name("serving.py")
    assert set(imported(serving)) <= {*sys.stdlib_module_names, "numpy"}
