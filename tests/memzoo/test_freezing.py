"""Frozen parameters take no part in training."""

import inspect

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from memzoo import LanguageModel, freeze, freezing, unfreeze
from memzoo.errors import InputError
from memzoo.freezing import Frozen

TOKENS = jnp.array([[3, 1, 4, 1, 5, 9]])


@pytest.fixture
def model():
    return LanguageModel(
        vocab_size=11,
        width=4,
        layers=["linear_attention"],
        mlp_width=4,
        rngs=nnx.Rngs(0),
    )


def values(model):
    return {
        ".".join(map(str, path)): np.asarray(variable.get_value())
        for path, variable in nnx.to_flat_state(nnx.state(model))
    }


def test_an_optimizer_changes_the_rest_alone(model):
    frozen = freeze(model, "embedding", "*.mlp")
    assert "embedding" in frozen and any(".mlp.gate" in name for name in frozen)
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)

    @nnx.jit
    def train(model, optimizer):
        loss, gradient = nnx.value_and_grad(lambda model: model.loss(TOKENS))(model)
        optimizer.update(model, gradient)
        return loss

    before = values(model)
    first = train(model, optimizer)
    after = values(model)
    changed = {name for name in before if np.any(before[name] != after[name])}
    assert changed and not changed & set(frozen)
    assert any(".mixer." in name for name in changed)
    assert train(model, optimizer) < first


def test_unfreezing_restores_every_parameter(model):
    before = {path for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param))}
    count = len(freeze(model, "*"))
    assert count == len(before)
    assert not nnx.to_flat_state(nnx.state(model, nnx.Param))
    assert len(nnx.to_flat_state(nnx.state(model, Frozen))) == count
    assert len(unfreeze(model, "*")) == count
    after = {path for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param))}
    assert before == after


def test_a_name_that_fits_nothing_is_refused(model):
    with pytest.raises(InputError, match="'head'; the model has embedding, final_norm"):
        freeze(model, "head")
    for change in (freeze, unfreeze):
        with pytest.raises(InputError, match="no part is named; give names of parts, "):
            change(model)
    with pytest.raises(InputError, match=r"model is None; give an nnx.Module"):
        inspect.unwrap(freezing._change)(None, ("head",), nnx.Param, Frozen)
    with pytest.raises(InputError, match="a part is a Stack; give its name, such as"):
        inspect.unwrap(freezing._change)(model, (model.stack,), nnx.Param, Frozen)
    assert jnp.isfinite(model.loss(TOKENS))
