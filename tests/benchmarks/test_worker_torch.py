"""The workers of peers import only what exists without memzoo."""

import ast
import sys

import pytest

from memzoo.benchmarks.cases import Peer
from memzoo.benchmarks.contestant import WORKER_TORCH

FOLDER = WORKER_TORCH.parent
BESIDE = {"serving", "model_weights", "torch_models", "torch_operations"}
PACKAGES = {"numpy", "torch", "transformers", "fla", "titans_pytorch", "jla", "jax"}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports from its package"
            yield str(node.module).partition(".")[0]


@pytest.mark.parametrize("name", [*sorted(BESIDE), "worker_torch", "worker_jla"])
def test_a_peers_process_imports_nothing_that_its_environment_lacks(name):
    found = set(imported(FOLDER / f"{name}.py"))
    allowed = PACKAGES - ({"jla", "jax"} if name != "worker_jla" else {"torch"})
    if name == "serving":
        allowed = {"numpy"}
    assert found <= {*sys.stdlib_module_names, *BESIDE, *allowed}


def test_every_peer_in_pytorch_says_its_distribution():
    text = WORKER_TORCH.read_text()
    table = next(
        ast.literal_eval(node.value)
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and node.targets[0].id == "DISTRIBUTIONS"
    )
    assert {*table, "jla"} == set(Peer.__args__)
