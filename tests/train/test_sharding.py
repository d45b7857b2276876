"""The mesh, and the shardings of parameters, moments and batches."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, PartitionSpec

from memzoo.configs.experiment import MeshConfig
from memzoo.train import sharding
from memzoo.train.sharding import (
    check_batch,
    make_mesh,
    parameter_sharding,
    tree_sharding,
)

KERNEL = "stack/groups/0/blocks/0/mixer/query/kernel"


def test_the_data_axis_takes_what_the_others_leave():
    mesh = make_mesh(MeshConfig(fsdp=2, tensor=2))
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "expert": 1, "tensor": 2}
    assert mesh.axis_types == (AxisType.Auto,) * 4
    assert make_mesh(MeshConfig(expert=4)).shape["data"] == 2


def test_a_mesh_may_use_some_of_the_devices():
    assert make_mesh(MeshConfig(data=2)).devices.size == 2


def test_a_mesh_that_does_not_divide_the_devices_is_refused():
    with pytest.raises(ValueError, match=r"mesh.tensor 1 = 3 does not divide the 8"):
        make_mesh(MeshConfig(fsdp=3))


def test_a_mesh_of_experts_that_does_not_divide_the_devices_is_refused():
    with pytest.raises(ValueError, match=r"mesh.tensor 1 x mesh.expert 3 = 3 does not"):
        make_mesh(MeshConfig(expert=3))


def test_a_mesh_with_too_many_devices_is_refused():
    with pytest.raises(ValueError, match=r"needs 16 devices and there are 8; leave"):
        make_mesh(MeshConfig(data=4, fsdp=4))


def test_several_processes_use_all_devices(monkeypatch):
    monkeypatch.setattr(sharding.jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="needs 2 devices and there are 8"):
        make_mesh(MeshConfig(data=2))


def test_a_batch_that_cannot_be_shared_out_is_refused():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2))
    check_batch(mesh, 16, 4)
    with pytest.raises(ValueError, match=r"= 6 rows cannot be divided over .* = 4"):
        check_batch(mesh, 12, 2)


def test_logical_axes_become_axes_of_the_mesh():
    mesh = make_mesh(MeshConfig(fsdp=2, tensor=2))
    spec = parameter_sharding(mesh, KERNEL, (3, 8, 4)).spec
    assert spec == PartitionSpec(None, "fsdp", "tensor")
    assert parameter_sharding(mesh, "embedding", (6, 8)).spec == PartitionSpec(
        "tensor", "fsdp"
    )


def test_an_axis_that_does_not_divide_is_whole():
    mesh = make_mesh(MeshConfig(fsdp=2, tensor=4))
    assert parameter_sharding(mesh, KERNEL, (3, 8, 6)).spec == PartitionSpec(
        None, "fsdp"
    )
    assert parameter_sharding(mesh, KERNEL, (3, 7, 6)).spec == PartitionSpec()


def test_maps_of_memories_lie_on_the_axis_of_experts():
    mesh = make_mesh(MeshConfig(expert=2, tensor=2))
    own = "stack/groups/0/blocks/0/mixer/memory/key/kernel"
    spec = parameter_sharding(mesh, own, (3, 4, 8, 4)).spec
    assert spec == PartitionSpec(None, "expert", "fsdp", "tensor")
    # Memories that the axis does not divide are whole on every device.
    spec = parameter_sharding(mesh, own, (3, 5, 8, 4)).spec
    assert spec == PartitionSpec(None, None, "fsdp", "tensor")
    # A layer with one memory has no axis of copies.
    spec = parameter_sharding(mesh, own, (3, 8, 4)).spec
    assert spec == PartitionSpec(None, "fsdp", "tensor")


def test_moments_lie_as_their_parameters_and_the_rest_is_whole():
    mesh = make_mesh(MeshConfig(fsdp=2, tensor=2))
    leaf = jax.ShapeDtypeStruct((3, 8, 4), jnp.float32)
    count = jax.ShapeDtypeStruct((), jnp.int32)
    tree = ({"count": count}, {"mu": {KERNEL: leaf}, "nu": {KERNEL: count}})
    placed = tree_sharding(mesh, {KERNEL: leaf}, tree)
    assert placed[1]["mu"][KERNEL].spec == PartitionSpec(None, "fsdp", "tensor")
    assert placed[1]["nu"][KERNEL].spec == PartitionSpec()
    assert placed[0]["count"].spec == PartitionSpec()
