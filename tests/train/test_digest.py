"""Digests detect every bit and ignore the topology."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from memzoo.configs.experiment import MeshConfig
from memzoo.train.digest import digests
from memzoo.train.sharding import make_mesh


def test_every_flipped_bit_shows():
    array = np.arange(8, dtype=np.float32)
    flipped = np.stack(
        [array]
        + [
            (array.view(np.uint32) ^ (np.uint32(1 << bit) * (np.arange(8) == place)))
            .astype(np.uint32)
            .view(np.float32)
            for place in range(8)
            for bit in range(32)
        ]
    )
    found = digests({str(i): jnp.asarray(row) for i, row in enumerate(flipped)})
    assert len({digest for *_, digest in found.values()}) == 1 + 8 * 32


def test_the_same_on_any_mesh():
    array = np.random.default_rng(0).normal(size=(8, 4, 6)).astype(np.float32)
    expected = digests({"a": jnp.asarray(array)})
    mesh = make_mesh(MeshConfig(fsdp=4, tensor=2))
    for spec in ((), ("fsdp",), ("tensor", "fsdp"), (("data", "fsdp"), None, "tensor")):
        placed = jax.device_put(array, NamedSharding(mesh, PartitionSpec(*spec)))
        assert digests({"a": placed}) == expected


def test_places_and_shapes_count():
    a = jnp.arange(6, dtype=jnp.int32)
    arrays = {
        "a": a,
        "rolled": jnp.roll(a, 1),
        "matrix": a.reshape(2, 3),
        "transposed": a.reshape(2, 3).T,
    }
    assert len({str(digest) for digest in digests(arrays).values()}) == 4


def test_all_kinds_of_arrays(x64):
    arrays = {
        "bool": jnp.array([True, False]),
        "half": jnp.ones((3,), jnp.bfloat16),
        "double": jnp.ones((2, 2), jnp.float64),
        "key": jax.random.key(0),
        "byte": jnp.arange(3, dtype=jnp.uint8),
        "empty": jnp.zeros((0, 2)),
    }
    found = digests(arrays)
    assert found["key"] != digests({"key": jax.random.key(1)})["key"]
    assert found["half"][:2] == [[3], "bfloat16"]


def test_nothing_has_no_digests():
    assert digests({}) == {}
