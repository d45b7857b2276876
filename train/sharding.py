"""The mesh with its named axes, and the shardings of parameters and batches."""

import math
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from memzoo.errors import InputError

from ..configs.experiment import MeshConfig
from .roles import Axis, logical_axes

AXES = ("data", "fsdp", "expert", "tensor")
BATCH_AXES = ("data", "fsdp", "expert")

# Logical axis of a parameter -> axis of the mesh.
RULES: dict[Axis, str] = {
    "embed": "fsdp",
    "heads": "tensor",
    "mlp": "tensor",
    "vocab": "tensor",
    "memories": "expert",
}


def make_mesh(config: MeshConfig) -> Mesh:
    """Return the mesh over the devices of all processes.

    A single process may use fewer devices than there are, if `config.data` is given.

    Raises:
        InputError: there are too few devices, or they cannot be divided.
    """
    devices = jax.devices()
    model = config.fsdp * config.expert * config.tensor
    given = f"mesh.fsdp {config.fsdp} x mesh.tensor {config.tensor}"
    if config.expert > 1:
        given = f"{given} x mesh.expert {config.expert}"
    data = config.data
    if data is None:
        if len(devices) % model:
            raise InputError(
                f"{given} = {model} does not divide the {len(devices)} devices; change "
                "any of them"
            )
        data = len(devices) // model
    wanted = data * model
    if wanted > len(devices) or (jax.process_count() > 1 and wanted < len(devices)):
        raise InputError(
            f"mesh.data {data} x {given} needs {wanted} devices and there are "
            f"{len(devices)}; leave mesh.data out to use all of them"
        )
    return jax.make_mesh(
        (data, config.fsdp, config.expert, config.tensor),
        AXES,
        axis_types=(AxisType.Auto,) * len(AXES),
        devices=devices[:wanted],
    )


def check_batch(mesh: Mesh, batch_size: int, gradient_accumulation: int) -> None:
    """Check that the rows of a slice can be divided over the data axes of the mesh.

    Raises:
        InputError: they cannot.
    """
    rows = batch_size // gradient_accumulation
    shards = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    if rows % shards:
        raise InputError(
            f"batch_size {batch_size} / gradient_accumulation {gradient_accumulation} "
            f"= {rows} rows cannot be divided over mesh.data x mesh.fsdp x "
            f"mesh.expert = {shards} devices; change the batch or the mesh"
        )


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """Return a sharding that keeps the whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Return a sharding of rows over the data axes."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def parameter_sharding(mesh: Mesh, name: str, shape: tuple[int, ...]) -> NamedSharding:
    """Return the sharding of the parameter at the path `name`.

    An axis that is not a multiple of its mesh axis is kept whole on every device.
    """
    spec: list[str | None] = []
    for size, axis in zip(shape, logical_axes(name, len(shape)), strict=True):
        target = None if axis is None else RULES[axis]
        if target is None or size % mesh.shape[target] or target in spec:
            spec.append(None)
        else:
            spec.append(target)
    while spec and spec[-1] is None:
        spec.pop()
    return NamedSharding(mesh, PartitionSpec(*spec))


def tree_sharding(mesh: Mesh, params: Mapping[str, Any], tree: Any) -> Any:
    """Return a sharding for every leaf of `tree`; like the parameter of its path, if
    any.

    Args:
        params: shapes of the parameters, by path.
        tree: shapes; the optimizer's moments are dictionaries with the paths of
            parameters as keys, like `params`.
    """

    def place(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        key = str(getattr(path[-1], "key", "")) if path else ""
        if key in params and params[key].shape == leaf.shape:
            return parameter_sharding(mesh, key, leaf.shape)
        return replicated(mesh)

    return jax.tree_util.tree_map_with_path(place, tree)
