"""The loss over next and masked tokens, against its two means in plain code."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from memzoo.configs.experiment import MeshConfig
from memzoo.data.mqar import MqarConfig
from memzoo.data.prefix import PrefixConfig
from memzoo.models.block import Group
from memzoo.models.interface import SequenceInfo
from memzoo.models.language_model import LanguageModelConfig
from memzoo.models.prefix_attention import PrefixAttentionConfig
from memzoo.models.prefix_linear_attention import PrefixLinearAttentionConfig
from memzoo.train.objective import Objective, objective_of
from memzoo.train.program import make_program
from memzoo.train.sharding import make_mesh
from memzoo.train.state import by_path, make_template
from memzoo.train.step import gradients_of

TASK = PrefixConfig(
    task=MqarConfig(vocab_size=32, length=16, num_pairs=3), mask_share=0.4
)
LAYERS = (
    PrefixLinearAttentionConfig(num_heads=2, feature_size=3),
    PrefixAttentionConfig(num_heads=2),
)


def model_of(layer):
    return LanguageModelConfig(
        vocab_size=33, width=8, pattern=(Group(layers=(layer,)),)
    )


def both_means(model, batch):
    """Return the mean next-token and masked-token losses, target by target."""
    info = SequenceInfo(prefix=jnp.asarray(batch.prefix))
    hidden, _ = model.hidden(jnp.asarray(batch.tokens), model.init_state(8, 0), info)
    nats = optax.softmax_cross_entropy_with_integer_labels(
        model.logits(hidden), jnp.asarray(batch.targets)
    )
    asked = batch.target_weights > 0
    masked = asked & (batch.tokens == TASK.mask_token)
    return tuple(
        jnp.sum(jnp.where(chosen, nats, 0)) / chosen.sum()
        for chosen in (asked & ~masked, masked)
    )


@pytest.mark.parametrize("slices", [1, 2])
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
@pytest.mark.parametrize("convention", ["code", "paper"])
def test_loss_and_gradient_are_those_of_the_two_means(layer, convention, slices):
    task = dataclasses.replace(TASK, loss=convention, mask_weight=0.25)
    batch = task.build("train").examples(np.arange(8))
    config = model_of(layer)

    def build(key):
        return config.build(nnx.Rngs(key))

    template = make_template(build)
    _, params, rest = nnx.split(build(jax.random.key(0)), nnx.Param, ...)
    params, rest = by_path(params), by_path(rest)

    def wanted(params):
        following, masked = both_means(template.merge(params, rest), batch)
        loss = following + 0.25 * masked
        return loss / 1.25 if convention == "paper" else loss

    mesh = make_mesh(MeshConfig(data=1))
    with jax.set_mesh(mesh):
        found, _, metrics = jax.jit(
            lambda p, r, b: gradients_of(
                template, p, r, b, mesh, slices, objective_of(task)
            )
        )(params, rest, jax.tree.map(jnp.asarray, batch))
        loss, gradients = jax.jit(jax.value_and_grad(wanted))(params)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    assert 0 <= metrics["accuracy"] <= 1
    for name, gradient in gradients.items():
        scale = np.max(np.abs(gradient))
        np.testing.assert_allclose(
            found[name], gradient, rtol=1e-3, atol=1e-4 * scale, err_msg=name
        )


def test_only_masks_ask_for_an_objective():
    assert objective_of(TASK.task) is None
    assert objective_of(dataclasses.replace(TASK, mask_share=0)) is None
    assert objective_of(TASK) == Objective(
        mask_token=32, mask_weight=0.25, divide=False
    )


def test_a_batch_without_masks_or_without_questions():
    objective = Objective(mask_token=32, mask_weight=0.25, divide=True)
    batch = TASK.build("train").examples(np.arange(2))
    masked = batch.tokens == 32
    some = batch._replace(target_weights=np.where(masked, 0, batch.target_weights))
    weighed, divisor = objective.weigh(some)
    assert divisor == 1.25
    np.testing.assert_allclose(jnp.sum(weighed.target_weights), 1, rtol=1e-6)
    none = batch._replace(target_weights=0 * batch.target_weights)
    assert not np.any(objective.weigh(none)[0].target_weights)


def test_sparse_targets_are_weighed_by_the_token_that_they_belong_to():
    objective = Objective(mask_token=9, mask_weight=0.5, divide=False)
    batch = (
        TASK.build("validation")
        .examples(np.arange(1))
        ._replace(
            tokens=np.array([[9, 1, 9, 2]], np.int32),
            targets=np.zeros((1, 3), np.int32),
            target_positions=np.array([[2, 1, 3]], np.int32),
            target_weights=np.ones((1, 3), np.float32),
        )
    )
    weighed, divisor = objective.weigh(batch)
    np.testing.assert_allclose(weighed.target_weights, [[0.5, 0.5, 0.5]])
    assert divisor == 1


def test_the_program_trains_by_it(small):
    config = small(task=TASK, model=model_of(LAYERS[0]))
    program = make_program(config, make_mesh(config.mesh))
    with jax.set_mesh(program.mesh):
        batch = program.put(TASK.build("train").examples(np.arange(8)))
        _, metrics = program.step(program.init(), batch)
    # About ln 33 for each kind: a plain mean would give ln 33 only once.
    assert 1.1 * np.log(33) < metrics["loss"] < 1.4 * np.log(33)
