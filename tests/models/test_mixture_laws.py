"""Run the laws on mixtures of every kind of memory with every option."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.based import BasedConfig
from memzoo.models.comba import CombaConfig
from memzoo.models.continuum_memory import ContinuumMemoryConfig
from memzoo.models.delta_net import DeltaNetConfig
from memzoo.models.gated_delta_net import GatedDeltaNetConfig
from memzoo.models.gdn2 import GDN2Config
from memzoo.models.gla import GLAConfig
from memzoo.models.hgrn2 import HGRN2Config
from memzoo.models.hmm_two_rate import HMMTwoRateConfig
from memzoo.models.kda import KDAConfig
from memzoo.models.linear_attention import LinearAttentionConfig
from memzoo.models.mamba2 import Mamba2Config
from memzoo.models.mesa_net import MesaNetConfig
from memzoo.models.mixture_of_memories import MixtureOfMemoriesConfig
from memzoo.models.retnet import RetNetConfig
from memzoo.models.titans_lmm import TitansLMMConfig
from memzoo.testing import check_layer

WIDTH = 8
GATED = GatedDeltaNetConfig(num_heads=2, value_ratio=1, chunk_size=4)
MEMORIES = {
    "linear_attention": LinearAttentionConfig(num_heads=2, chunk_size=4),
    "retnet": RetNetConfig(num_heads=2, chunk_size=4),
    "mamba2": Mamba2Config(head_size=4, state_size=4, chunk_size=4),
    "delta_net": DeltaNetConfig(num_heads=2, chunk_size=4),
    "gated_delta_net": GATED,
    "gla": GLAConfig(num_heads=2, chunk_size=4),
    "hgrn2": HGRN2Config(num_heads=2, chunk_size=4),
    "kda": KDAConfig(num_heads=2, chunk_size=4),
    "gdn2": GDN2Config(num_heads=2, chunk_size=4),
    "comba": CombaConfig(num_heads=2, chunk_size=4),
    "mesa_net": MesaNetConfig(num_heads=2, chunk_size=4),
    "based": BasedConfig(num_heads=2, feature_size=3, chunk_size=4),
    "titans_lmm": TitansLMMConfig(
        num_heads=2, persistent_tokens=0, update_every=4, chunk_size=8
    ),
    "continuum_memory": ContinuumMemoryConfig(
        num_heads=2, levels=2, update_every=2, level_ratio=2, chunk_size=4
    ),
    "hmm_two_rate": HMMTwoRateConfig(
        num_heads=2, persistent_tokens=0, update_every=2, slow_every=2, chunk_size=4
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMORIES)
def test_every_rule_obeys_the_laws(name):
    check_layer(MixtureOfMemoriesConfig(memory=MEMORIES[name]), width=WIDTH)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"shared_memory": False},
        {"single_kv_proj": True},
        {"num_memories": 8, "top_k": 3},
        {"num_memories": 2},
        {"memory": dataclasses.replace(GATED, convolution_size=0)},
        {"form": "dense"},
        {"form": "padded"},
    ],
    ids=str,
)
def test_variants_obey_the_laws(options):
    config = MixtureOfMemoriesConfig(**({"memory": GATED} | options))
    check_layer(config, width=WIDTH)


@pytest.mark.parametrize("taps", [0, pytest.param(4, marks=pytest.mark.slow)])
def test_gradients_of_the_forms_are_equal(taps):
    """Compare every parameter's gradient; without convolutions, slots are projected."""
    memory = dataclasses.replace(GATED, convolution_size=taps)
    x = jax.random.normal(jax.random.key(0), (2, 19, WIDTH))
    weight = jax.random.normal(jax.random.key(1), x.shape)
    found = {}
    for form in ("packed", "dense"):
        config = MixtureOfMemoriesConfig(memory=memory, form=form)
        layer = config.build(WIDTH, nnx.Rngs(0), layer_index=0, depth=1)
        graphdef, params, rest = nnx.split(layer, nnx.Param, ...)
        state = layer.init_state(2, 0)

        def loss(params, x, graphdef=graphdef, rest=rest, state=state):
            layer = nnx.merge(graphdef, params, rest, copy=True)
            return jnp.sum(layer(x, state)[0] * weight)

        found[form] = jax.jit(jax.grad(loss, (0, 1)))(params, x)
    for (path, a), b in zip(
        jax.tree.leaves_with_path(found["packed"]),
        jax.tree.leaves(found["dense"]),
        strict=True,
    ):
        scale = np.max(np.abs(b))
        np.testing.assert_allclose(
            a, b, rtol=1e-4, atol=1e-5 * scale, err_msg=jax.tree_util.keystr(path)
        )
