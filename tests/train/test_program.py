"""The program of an experiment, before anything is compiled."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from memzoo.configs.experiment import MeshConfig
from memzoo.data.batch import Batch
from memzoo.train.program import make_program
from memzoo.train.sharding import make_mesh


def test_nothing_is_allocated_for_a_large_model(small):
    """Only specs are built: 2^24 x 2^14 parameters would not fit anywhere."""
    config = small()
    model = dataclasses.replace(config.model, vocab_size=2**24, width=2**14)
    program = make_program(small(model=model), make_mesh(config.mesh))
    assert program.specs.params["embedding"].shape == (2**24, 2**14)


def test_rows_lie_on_the_data_axes(small):
    config = small(mesh=MeshConfig(data=2, fsdp=2, tensor=2))
    program = make_program(config, make_mesh(config.mesh))
    rows = np.arange(32, dtype=np.int32).reshape(8, 4)
    batch = program.put(Batch(rows, rows, None, np.ones((8, 4), np.float32)))
    assert batch.tokens.sharding.spec == PartitionSpec(("data", "fsdp", "expert"))
    assert batch.target_positions is None
    np.testing.assert_array_equal(jax.device_get(batch.tokens), rows)


def test_a_batch_that_the_mesh_cannot_share_out_is_refused(small):
    mesh = make_mesh(MeshConfig(data=8))
    with pytest.raises(ValueError, match="4 rows cannot be divided over"):
        make_program(small(gradient_accumulation=2), mesh)
