"""The associative memory of ARMT on its own; the layer is in test_armt."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from memzoo.models.segment_association import SegmentAssociation

TOKENS = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 8)), jnp.float32)


def test_a_new_memory_and_a_new_map_of_values_read_nothing():
    memory = SegmentAssociation(8, 4, nnx.Rngs(0))
    empty = memory.new_memory(2)
    assert memory.features == empty.shape[2]
    np.testing.assert_array_equal(memory.read(empty, TOKENS), 0)
    np.testing.assert_array_equal(memory.written(empty, TOKENS), 0)


def test_a_token_written_in_full_is_read_at_its_key():
    memory = SegmentAssociation(8, 4, nnx.Rngs(0))
    memory.value.kernel[...] = jnp.eye(8)
    memory.query.kernel[...] = memory.key.kernel[...]
    memory.write_strength.bias[...] = jnp.full((1,), 50.0)
    written = memory.written(memory.new_memory(2), TOKENS[:, :1])
    read = memory.read(written, TOKENS[:, :1])
    np.testing.assert_allclose(read, TOKENS[:, :1], rtol=1e-4, atol=1e-5)
