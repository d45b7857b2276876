"""Run every shared test (law) on every registered layer."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from memzoo.models import LAYERS
from memzoo.models.gated_delta_net import GatedDeltaNetConfig
from memzoo.models.mixture_of_memories import MixtureOfMemoriesConfig
from memzoo.models.titans_lmm import TitansLMMConfig
from memzoo.testing import check_layer


@pytest.mark.parametrize("name", LAYERS)
def test_laws(name):
    check_layer(LAYERS[name](**LAYERS[name].small))


DEEP = TitansLMMConfig(
    num_heads=2, memory_expansion=1, update_every=4, chunk_size=8, persistent_tokens=2
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["titans_lmm", "titans_mac", "titans_mag", "titans_mal"]
)
def test_laws_with_a_network_for_a_memory(name):
    if name == "titans_lmm":
        return check_layer(DEEP)
    memory = DEEP
    if name == "titans_mac":
        memory = dataclasses.replace(DEEP, persistent_tokens=0)
    return check_layer(LAYERS[name](**(LAYERS[name].small | {"memory": memory})))


WITHOUT_TAILS = MixtureOfMemoriesConfig(
    memory=GatedDeltaNetConfig(num_heads=2, convolution_size=0)
)


@pytest.mark.parametrize("rows, time", [(0, 5), (0, 0), (2, 0)])
@pytest.mark.parametrize(
    "config",
    [*(kind(**kind.small) for kind in LAYERS.values()), WITHOUT_TAILS],
    ids=lambda config: type(config).__name__,
)
def test_batches_may_have_no_rows_or_tokens(config, rows, time):
    def run():
        layer = config.build(32, nnx.Rngs(0), layer_index=0, depth=2)
        return layer(jnp.zeros((rows, time, 32)), layer.init_state(rows, 8))[0]

    assert jax.eval_shape(run).shape == (rows, time, 32)


@pytest.mark.parametrize("size", [0, -3])
@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in LAYERS.values()
        if "chunk_size" in {field.name for field in dataclasses.fields(kind)}
    ],
)
def test_chunks_without_a_token_are_refused(kind, size):
    with pytest.raises(ValueError, match=f"chunk_size is {size}; give 1 or more, or"):
        kind(chunk_size=size)
