"""Our side of whole models, with small weights."""

import numpy as np
import pytest

from memzoo.benchmarks import jax_models, model_weights
from memzoo.benchmarks.cases import Case
from memzoo.benchmarks.inputs import make_inputs
from memzoo.benchmarks.runner import options_of
from memzoo.benchmarks.worker_jax import prepare

SMALL = {"time": 8, "batch_size": 2, "num_heads": 4, "head_size": 16}


@pytest.fixture(autouse=True)
def few_blocks(monkeypatch):
    monkeypatch.setattr(model_weights, "BLOCKS", 2)
    monkeypatch.setattr(model_weights, "MLP", 32)


def case_of(kind, model="attention"):
    return Case(kind=kind, operation=model, **SMALL)


def test_a_step_trains_and_its_gradients_are_those_of_the_first_weights():
    case = case_of("step")
    x = make_inputs(case, 0)
    prepared = prepare(dict(x), options_of(case))
    for _ in range(3):
        prepared.call()
    results = prepared.results()
    weights = {n for n in x if n not in ("tokens", "targets")}
    assert set(results) == {"output", *(f"gradient_{n}" for n in weights)}
    assert all(results[f"gradient_{n}"].shape == x[n].shape for n in weights)
    # A small step down the gradients lowers the loss by the predicted amount.
    rate = 1e-3
    squares = sum(np.sum(results[f"gradient_{n}"] ** 2) for n in weights)
    moved = x | {n: x[n] - rate * results[f"gradient_{n}"] for n in weights}
    after = prepare(dict(moved), options_of(case)).results()["output"]
    np.testing.assert_allclose(results["output"] - after, rate * squares, rtol=0.05)


def test_training_lowers_the_loss_of_a_batch(monkeypatch):
    monkeypatch.setattr(jax_models, "LEARNING_RATE", 0.02)
    losses = []
    make = jax_models.make_step

    def make_step(*arguments, **options):
        step = make(*arguments, **options)

        def run(state, batch):
            state, metrics = step(state, batch)
            losses.append(float(metrics["loss"]))
            return state, metrics

        return run

    monkeypatch.setattr(jax_models, "make_step", make_step)
    case = case_of("step")
    prepared = prepare(dict(make_inputs(case, 0)), options_of(case))
    for _ in range(10):
        prepared.call()
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("model", model_weights.WEIGHTS)
def test_every_parameter_of_a_model_has_its_weight(model):
    case = case_of("step", model)
    x = make_inputs(case, 0)
    held = jax_models._Model(dict(x), options_of(case))
    shapes, _ = held.template.shapes()
    assert {path: a.shape for path, a in held.params.items()} == {
        path: leaf.shape for path, leaf in shapes.items()
    }


@pytest.mark.parametrize("model", ["attention", "mamba2"])
def test_tokens_after_a_prompt_are_read_as_in_one_prompt(model):
    case = case_of("generate", model)
    x = make_inputs(case, 0)
    generate = prepare(dict(x), options_of(case))
    generate.call()
    whole = x | {"tokens": np.concatenate([x["tokens"], x["next"]], axis=1)}
    read = prepare(whole, options_of(case_of("read", model)))
    read.call()
    found = [each.results()["output"] for each in (generate, read)]
    np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-4)
    assert generate.peak() > 0
