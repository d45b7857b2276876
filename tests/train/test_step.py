"""The step: compiled once, the same on any mesh, in slices, and safe from NaN."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.configs.experiment import MeshConfig, OptimizerConfig
from memzoo.data.batch import Batch
from memzoo.data.pipeline import Pipeline
from memzoo.models.block import Group
from memzoo.models.gated_delta_net import GatedDeltaNetConfig
from memzoo.models.language_model import LanguageModelConfig, Reported
from memzoo.models.linear_attention import LinearAttentionConfig
from memzoo.models.loss import Auxiliary, LossSums
from memzoo.models.mixture_of_memories import MixtureOfMemoriesConfig
from memzoo.train.program import make_program
from memzoo.train.sharding import make_mesh
from memzoo.train.state import Template, by_path, make_template
from memzoo.train.step import gradients_of


class Bilinear(nnx.Module):
    """A loss with a known gradient: weight * (row of a table) . target, plus a norm."""

    def __init__(self, key):
        del key
        self.embedding = nnx.Param(jnp.arange(12.0).reshape(6, 2))

    def loss_sums(self, tokens, targets, *, target_positions, target_weights, info):
        row = self.embedding[...][tokens].sum(-1)
        auxiliary = 0.1 * jnp.sum(row**2) / row.size
        nats = jnp.sum(target_weights * row * targets)
        self.metrics = Reported({"seen": jnp.mean(row)})
        weight = jnp.sum(target_weights)
        return LossSums(nats, weight, weight, (Auxiliary.scalar(auxiliary[None]),))


def uneven_batch(rows=8, seed=0):
    draw = np.random.default_rng(seed)
    weights = draw.integers(0, 4, (rows, 3)).astype(np.float64)
    weights[3] = 0
    return Batch(
        tokens=draw.integers(0, 6, (rows, 3)).astype(np.int32),
        targets=draw.integers(0, 5, (rows, 3)).astype(np.int32),
        target_positions=None,
        target_weights=weights,
    )


@pytest.mark.parametrize("slices", [1, 2, 8])
def test_slices_equal_the_big_batch_with_uneven_weights(x64, mesh, slices):
    template = make_template(Bilinear)
    batch = jax.tree.map(jnp.asarray, uneven_batch())
    table = jnp.arange(12.0).reshape(6, 2)

    def mean_loss(table):
        row = table[batch.tokens].sum(-1)
        nats = jnp.sum(batch.target_weights * row * batch.targets)
        return nats / batch.target_weights.sum() + 0.1 * jnp.mean(row**2)

    expected, gradient = jax.value_and_grad(mean_loss)(table)
    found, _, metrics = jax.jit(
        lambda params: gradients_of(template, params, {}, batch, mesh, slices)
    )({"embedding": table})
    np.testing.assert_allclose(found["embedding"], gradient, rtol=1e-12)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-12)
    np.testing.assert_allclose(metrics["accuracy"], 1.0, rtol=1e-12)
    seen = table[batch.tokens].sum(-1).mean()
    np.testing.assert_allclose(metrics["metric/seen"], seen, rtol=1e-12)


def test_slices_share_the_auxiliary_losses_of_the_whole_batch(mesh):
    """Balance and z losses of a mixture: products and means over unequal token
    counts.
    """
    layer = MixtureOfMemoriesConfig(
        memory=LinearAttentionConfig(num_heads=1, convolution_size=0),
        num_memories=3,
        shared_memory=False,
        single_kv_proj=True,
        balance_scale=0.5,
        z_scale=0.25,
    )
    config = LanguageModelConfig(
        vocab_size=16, width=8, pattern=(Group(layers=(layer,), repeats=2),)
    )
    model = config.build(nnx.Rngs(0))
    template = Template(*nnx.split(model, nnx.Param, ...))
    params, rest = by_path(template.params), by_path(template.rest)
    draw = np.random.default_rng(0)
    batch = Batch(
        tokens=draw.integers(0, 16, (4, 12)).astype(np.int32),
        targets=draw.integers(0, 16, (4, 12)).astype(np.int32),
        target_positions=None,
        target_weights=draw.integers(0, 2, (4, 12)).astype(np.float32),
        valid=np.arange(12) < np.array([[12], [2], [9], [5]]),
    )
    batch = jax.tree.map(jnp.asarray, batch)

    @functools.partial(jax.jit, static_argnums=1)
    def sliced(params, slices):
        return gradients_of(template, params, rest, batch, mesh, slices)

    found = [sliced(params, slices) for slices in (1, 2)]
    gradients, _, metrics = found[0]
    assert float(metrics["loss"]) - float(metrics["cross_entropy"]) > 0.5
    others, _, other = found[1]
    for name in ("loss", "cross_entropy"):
        np.testing.assert_allclose(other[name], metrics[name], rtol=1e-6)
    for name, value in gradients.items():
        np.testing.assert_allclose(others[name], value, rtol=1e-4, atol=1e-6)


def test_a_batch_without_targets_has_no_loss(x64, mesh):
    batch = jax.tree.map(jnp.asarray, uneven_batch())
    batch = batch._replace(target_weights=jnp.zeros_like(batch.target_weights))
    found, _, metrics = gradients_of(
        make_template(Bilinear), {"embedding": jnp.zeros((6, 2))}, {}, batch, mesh, 1
    )
    assert float(metrics["loss"]) == 0.0 and not np.any(found["embedding"])


class Drawing(Bilinear):
    """A layer that reports its draws."""

    def loss_sums(self, *args, info, **kwargs):
        sums = super().loss_sums(*args, info=info, **kwargs)
        drawn = jnp.zeros(()) if info.key is None else jax.random.uniform(info.key)
        self.metrics = Reported({"drawn": drawn})
        return sums


def test_slices_draw_numbers_of_their_own(mesh):
    batch = jax.tree.map(jnp.asarray, uneven_batch())
    params = {"embedding": jnp.ones((6, 2))}

    def drawn(slices, key):
        *_, metrics = gradients_of(
            make_template(Drawing), params, {}, batch, mesh, slices, key=key
        )
        return float(metrics["metric/drawn"])

    key = jax.random.key(0)
    keys = [jax.random.fold_in(key, number) for number in range(2)]
    each = [float(jax.random.uniform(key)) for key in keys]
    assert drawn(1, None) == 0 and drawn(1, key) == each[0] != each[1]
    np.testing.assert_allclose(drawn(2, key), np.mean(each), rtol=1e-6)


def run_steps(program, config, number, spoil=None):
    """Return losses, last state and last metrics of a few steps."""
    losses = []
    with (
        jax.set_mesh(program.mesh),
        Pipeline(config.task, "train", config.batch_size) as data,
    ):
        state = program.init()
        for step in range(1, number + 1):
            batch = next(data)
            if step == spoil:
                batch.target_weights[0, 0] = np.nan
            state, metrics = program.step(state, program.put(batch))
            losses.append(float(metrics["loss"]))
    return np.array(losses), state, metrics


@pytest.fixture(scope="module")
def reference(small, program):
    """Return the result of three steps on one device."""
    return run_steps(program, small(), 3)


def test_the_step_reports(reference):
    losses, state, metrics = reference
    assert int(state.step) == 3 and np.all(np.isfinite(losses))
    names = {"loss", "cross_entropy", "accuracy", "grad_norm", "learning_rate"}
    assert set(metrics) >= names
    np.testing.assert_allclose(metrics["learning_rate"], 3e-3 * 2 / 5, rtol=1e-6)


def test_a_step_that_is_not_finite_changes_nothing(small, program):
    _, good, _ = run_steps(program, small(), 2)
    losses, state, _ = run_steps(program, small(), 4, spoil=3)
    assert np.isnan(losses[2]) and int(state.failed_step) == 3 and int(state.step) == 4
    for part in ("params", "opt_state"):
        before, after = getattr(good, part), getattr(state, part)
        jax.tree.map(np.testing.assert_array_equal, before, after)


def test_an_update_that_is_not_finite_changes_nothing(small):
    """The step's loss and gradient are finite; its new parameters are not."""
    config = small(optimizer=OptimizerConfig(learning_rate=1e38, warmup_steps=0))
    program = make_program(config, make_mesh(config.mesh))
    losses, state, metrics = run_steps(program, config, 1)
    assert np.isfinite(losses[0]) and np.isfinite(metrics["grad_norm"])
    assert int(state.failed_step) == 1
    with jax.set_mesh(program.mesh):
        fresh = program.init()
    for part in ("params", "opt_state"):
        before, after = getattr(fresh, part), getattr(state, part)
        jax.tree.map(np.testing.assert_array_equal, before, after)


def test_the_step_is_compiled_once(small, program, reference):
    run_steps(program, small(), 3)
    assert program.step.compiled._cache_size() == 1


def test_learning_rate_steps_and_seed_are_not_in_the_compiled_step(small, program):
    """A sweep over them compiles once, through JAX's cache."""

    def text(program):
        config = small()
        with Pipeline(config.task, "train", config.batch_size) as rows:
            batch = program.put(next(rows))
        return program.step.compiled.lower(
            program.specs, batch, program.step.numbers
        ).as_text()

    config = small(seed=5, steps=77, optimizer=OptimizerConfig(learning_rate=0.7))
    other = make_program(config, make_mesh(config.mesh))
    assert text(program) == text(other)


def test_accumulation_does_not_change_a_real_model(small, reference):
    expected, state, _ = reference
    config = small(gradient_accumulation=4)
    program = make_program(config, make_mesh(config.mesh))
    found, other, _ = run_steps(program, config, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for name, value in state.params.items():
        np.testing.assert_allclose(other.params[name], value, rtol=2e-2, atol=2e-4)


def test_every_step_draws_numbers_of_its_own_and_the_same_again(small):
    memory = GatedDeltaNetConfig(num_heads=2, value_ratio=1, convolution_size=0)
    layer = MixtureOfMemoriesConfig(memory=memory, num_memories=2, router_noise=1.0)
    config = small(
        model=dataclasses.replace(small().model, pattern=(Group(layers=(layer,)),)),
        optimizer=OptimizerConfig(learning_rate=1e-12, warmup_steps=0),
    )
    program = make_program(config, make_mesh(config.mesh))

    def losses():
        with (
            jax.set_mesh(program.mesh),
            Pipeline(config.task, "train", config.batch_size) as data,
        ):
            batch, state, found = program.put(next(data)), program.init(), []
            for _ in range(3):
                state, metrics = program.step(state, batch)
                found.append(float(metrics["cross_entropy"]))
        return found

    first = losses()
    assert len(set(first)) == 3 and losses() == first


@pytest.mark.parametrize(
    "mesh_config",
    [
        pytest.param(MeshConfig(data=8), marks=pytest.mark.slow),
        pytest.param(MeshConfig(data=2, fsdp=4), marks=pytest.mark.slow),
        pytest.param(MeshConfig(data=4, tensor=2), marks=pytest.mark.slow),
        MeshConfig(data=2, fsdp=2, tensor=2),
    ],
)
def test_the_same_losses_on_one_device_and_on_a_mesh(small, reference, mesh_config):
    expected, *_ = reference
    config = small(mesh=mesh_config)
    program = make_program(config, make_mesh(config.mesh))
    found, state, _ = run_steps(program, config, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert program.step.compiled._cache_size() == 1
    for leaf, spec in zip(
        jax.tree.leaves(state), jax.tree.leaves(program.specs), strict=True
    ):
        assert leaf.sharding == spec.sharding


@pytest.mark.parametrize(
    "mesh_config",
    [
        pytest.param(MeshConfig(data=2, expert=2, tensor=2), marks=pytest.mark.slow),
        MeshConfig(data=1, expert=2),
    ],
)
def test_the_same_losses_with_memories_on_several_devices(small, mesh_config):
    memory = GatedDeltaNetConfig(num_heads=2, value_ratio=1, convolution_size=0)
    layer = MixtureOfMemoriesConfig(
        memory=memory, num_memories=2, top_k=1, router_noise=0.1
    )
    model = dataclasses.replace(
        small().model, pattern=(Group(layers=(layer,), repeats=1),)
    )
    found = []
    for mesh in (MeshConfig(data=1), mesh_config):
        config = small(mesh=mesh, model=model)
        program = make_program(config, make_mesh(config.mesh))
        losses, state, _ = run_steps(program, config, 2)
        found.append(losses)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
    own = [leaf for name, leaf in state.params.items() if "memory/key/" in name]
    assert [leaf.sharding.spec[1] for leaf in own] == ["expert"]
