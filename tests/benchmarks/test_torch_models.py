"""Every row of a whole model has a model in transformers, trained like ours."""

import ast

from memzoo.benchmarks import jax_models
from memzoo.benchmarks.contestant import WORKER_TORCH
from memzoo.benchmarks.rows import model_rows

TREE = ast.parse(WORKER_TORCH.with_name("torch_models.py").read_text())


def value(name):
    (found,) = (
        node.value
        for node in TREE.body
        if isinstance(node, ast.Assign) and node.targets[0].id == name
    )
    return found


def test_every_model_and_kind_is_there():
    models = {ast.literal_eval(key) for key in value("_MODELS").keys}
    kinds = {ast.literal_eval(key) for key in value("MODEL_KINDS").keys}
    assert models == {row.case.operation for row in model_rows("step")}
    assert kinds == set(jax_models.MODEL_KINDS)


def test_both_sides_learn_at_the_same_rate():
    assert ast.literal_eval(value("LEARNING_RATE")) == jax_models.LEARNING_RATE
