"""Every row with a peer in PyTorch has the peer's function."""

import ast

from memzoo.benchmarks.contestant import WORKER_TORCH
from memzoo.benchmarks.rows import CPU_ROWS, GPU_ROWS, prompt_rows

TREE = ast.parse(WORKER_TORCH.with_name("torch_operations.py").read_text())


def keys(name):
    (table,) = (
        node.value
        for node in TREE.body
        if isinstance(node, ast.Assign) and node.targets[0].id == name
    )
    return {ast.literal_eval(key) for key in table.keys}


def wanted(rows):
    return {(r.peer, r.case.operation) for r in rows if r.peer != "memzoo"}


def test_every_row_on_a_cpu_has_its_function():
    assert wanted(CPU_ROWS) == keys("OPERATIONS")


def test_every_row_on_a_gpu_has_its_kernel_or_function():
    assert wanted(GPU_ROWS) <= keys("OPERATIONS") | keys("KERNELS")
    assert keys("KERNELS") <= wanted(GPU_ROWS)


def test_attention_reads_every_long_prompt():
    rows = [r for r in prompt_rows("cpu") if r.peer != "memzoo"]
    assert {r.peer for r in rows} == {"torch"}
    assert {r.case.kind for r in rows} == keys("PROMPTS")
