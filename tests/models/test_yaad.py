"""Yaad's loss and its learned threshold; the layer as a loop is in test_miras."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from memzoo.models.interface import Layout
from memzoo.models.ops.inner_loss import inner_loss
from memzoo.models.yaad import YaadConfig


def test_loss_is_half_the_square_up_to_the_threshold_and_linear_beyond():
    read, threshold = jnp.asarray([[3.0, 4.0]]), jnp.asarray([2.0])
    value = jnp.zeros((1, 2))
    far = inner_loss("huber", read, value, threshold, power=3.0)
    near = inner_loss("huber", read, value, 4 * threshold, power=3.0)
    np.testing.assert_allclose(far, [2 * 5 - 2], rtol=1e-6)
    np.testing.assert_allclose(near, [25 / 2], rtol=1e-6)


def test_threshold_begins_near_the_length_of_a_vector_of_unit_variance():
    layer = YaadConfig(num_heads=2).build(32, nnx.Rngs(0), layer_index=0, depth=1)
    inputs, _ = layer.inputs(jnp.zeros((1, 3, 32)), layer.init_state(1, 0), Layout())
    threshold = np.asarray(inputs.tokens.gates.threshold)
    assert threshold.shape == (1, 3, 2)
    np.testing.assert_allclose(threshold, np.sqrt(16), rtol=0.5)
