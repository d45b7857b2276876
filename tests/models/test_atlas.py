"""The steps of ATLAS; the layer as a loop is in test_omega_net."""

import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.errors import InputError
from memzoo.models.atlas import AtlasConfig
from memzoo.models.ops.write_rule import orthogonalised


def test_steps_have_singular_values_near_one():
    momentum = np.random.default_rng(0).normal(size=(1, 1, 6, 6)).astype(np.float32)
    rule = AtlasConfig().write_rule()
    for scale in (1, 100):
        step = orthogonalised({"m": jnp.asarray(scale * momentum)}, rule)["m"]
        values = np.linalg.svd(np.asarray(step[0, 0]), compute_uv=False)
        assert values.min() > 0.5 and values.max() < 1.3


def test_atlas_without_its_steps_is_refused():
    with pytest.raises(InputError, match="newton_schulz_steps is 0"):
        AtlasConfig(newton_schulz_steps=0)
