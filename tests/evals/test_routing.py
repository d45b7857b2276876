"""Routing of recall's tokens in a mixture."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.configs.presets.mqar import comparable_layer
from memzoo.data.mqar import MqarConfig
from memzoo.evals import routing
from memzoo.evals.routing import (
    KINDS,
    has_mixture,
    kinds_of,
    routing_rows,
    written_places,
)
from memzoo.models.block import Group
from memzoo.models.language_model import LanguageModelConfig

TASK = MqarConfig(vocab_size=32, length=16, num_pairs=2, num_passes=2)


@pytest.fixture(scope="module")
def model():
    """A plain block, then a mixture whose router reads only the first feature."""
    mixture = dataclasses.replace(comparable_layer("mixture_of_memories", 8), top_k=1)
    layers = (comparable_layer("linear_attention", 8), mixture)
    config = LanguageModelConfig(
        vocab_size=32, width=8, pattern=(Group(layers=layers, repeats=1),)
    )
    assert has_mixture(config.pattern)
    model = config.build(nnx.Rngs(0))
    plain, mixed = model.stack.groups[0].blocks
    # The block before adds nothing, so that the embedding decides the routing.
    output = plain.mixer.read_out.projection.kernel
    output.set_value(jnp.zeros_like(output[...]))
    kernel = jnp.zeros_like(mixed.mixer.router.kernel[...])
    kernel = kernel.at[0, 0, 2].set(50.0).at[0, 0, 1].set(-50.0)
    mixed.mixer.router.kernel.set_value(kernel)
    # Values go to memory 2; blanks and keys go to memory 1.
    first = jnp.where(jnp.arange(32) < 16, -1.0, 1.0)
    model.embedding.set_value(model.embedding[...].at[:, 0].set(first))
    return model


def test_kinds_are_those_of_the_example_in_the_task(model):
    del model
    batch = TASK.build("validation").examples(np.arange(3))
    kinds = kinds_of(batch)
    assert (kinds.sum(0) == 1).all()
    key, value, query, filler = kinds
    assert (batch.tokens[filler] == 0).all() and (batch.tokens[query] > 0).all()
    assert (batch.tokens[value] >= 16).all() and (batch.tokens[key] < 16).all()
    assert key.sum() == value.sum() == 2 * query.sum() == 3 * 4


def test_rows_say_where_tokens_of_each_kind_go(model):
    rows = routing_rows(model, TASK, examples=8, batch_size=4)
    assert {row["setting"]["block"] for row in rows} == {1}
    found = {
        (row["setting"].get("kind"), row["setting"].get("memory"), row["metric"]): row
        for row in rows
    }
    for kind in KINDS:
        memory = 2 if kind == "value" else 1
        shares = [found[kind, m, "routed"]["value"] for m in range(4)]
        assert shares == [float(m == memory) for m in range(4)]
    load = [found["all", m, "routed"]["value"] for m in range(4)]
    assert load == [0.0, 0.75, 0.25, 0.0]
    assert found["all", 1, "routed"]["count"] == 8 * TASK.length
    # The value that is asked for was written to another memory.
    assert found[None, None, "answered_by_writer"]["value"] == 0.0
    assert found[None, None, "answered_by_chance"]["value"] == 0.0
    assert found[None, None, "routing_entropy"]["value"] < 1e-3


def test_a_query_is_followed_to_the_pair_that_it_asks_for():
    task = dataclasses.replace(TASK, num_pairs=3, num_queries=2, length=20)
    batch = task.build("validation").examples(np.arange(20))
    places = written_places(batch, task)
    found = np.take_along_axis(batch.tokens, places, axis=1)
    np.testing.assert_array_equal(found, batch.targets)
    assert (places >= 6).all() and (places < 12).all()


def test_a_router_without_a_preference_has_the_entropy_of_chance(model):
    graphdef, params = nnx.split(model)
    even = nnx.merge(graphdef, jax.tree.map(jnp.zeros_like, params))
    rows = routing_rows(even, TASK, examples=4, batch_size=4)
    by_metric = {row["metric"]: row["value"] for row in rows}
    np.testing.assert_allclose(by_metric["routing_entropy"], np.log(4), rtol=1e-6)
    # Ties go to the lowest index: all tokens are in one memory.
    assert by_metric["answered_by_writer"] == 1.0
    # Another row's value cannot be elsewhere either.
    assert by_metric["answered_by_chance"] == 1.0


def test_answers_by_chance_are_those_of_other_rows(model):
    """Values below 24 are written to memory 1, which queries read, others to 2."""
    graphdef, params = nnx.split(model)
    mixed = nnx.merge(graphdef, params, copy=True)
    first = jnp.where(jnp.arange(32) < 24, -1.0, 1.0)
    mixed.embedding.set_value(mixed.embedding[...].at[:, 0].set(first))
    rows = routing_rows(mixed, TASK, examples=64, batch_size=32)
    by_metric = {row["metric"]: row["value"] for row in rows}
    by_chance = by_metric["answered_by_chance"]
    np.testing.assert_allclose(by_chance, by_metric["answered_by_writer"])
    assert 0.3 < by_chance < 0.7


def test_chance_has_no_regard_to_the_row(model, monkeypatch):
    """Every row uses one memory: all answered by the writer, half by chance."""

    def by_row(graphdef, parameters, tokens):
        memory = jnp.arange(tokens.shape[0])[:, None, None] % 2
        chosen = jnp.broadcast_to(memory, (*tokens.shape, 1))
        return {0: (chosen, jnp.ones(chosen.shape), jax.nn.one_hot(chosen[..., 0], 4))}

    monkeypatch.setattr(routing, "_routings", by_row)
    rows = routing_rows(model, TASK, examples=8, batch_size=4)
    by_metric = {row["metric"]: row["value"] for row in rows}
    assert by_metric["answered_by_writer"] == 1.0
    assert by_metric["answered_by_chance"] == 0.5


def test_what_holds_no_mixture_is_told_apart():
    layers = (comparable_layer("retnet", 8), comparable_layer("titans_mag", 8))
    assert not has_mixture([Group(layers=layers)])
