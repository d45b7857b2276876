"""What PyTorch's process of long prompts may import."""

import ast
import sys
from pathlib import Path

from memzoo.benchmarks import prefill
from memzoo.benchmarks.worker_prefill import COMPARED

WORKER = Path(prefill.__file__).parent / "worker_prefill_torch.py"


def test_it_imports_nothing_that_its_environment_lacks():
    tree = ast.parse(WORKER.read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {name.name.partition(".")[0] for name in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add(str(node.module).partition(".")[0])
    assert names <= {*sys.stdlib_module_names, "serving", "numpy", "torch"}


def test_it_agrees_with_ours_on_what_is_compared():
    text = WORKER.read_text()
    assert f"COMPARED = {COMPARED}\n" in text
    assert f"HEADS = {prefill.HEADS}\n" in text
