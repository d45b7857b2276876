"""The role of every parameter, in one table: how it is split, and whether it decays."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax

from memzoo.errors import InputError

Axis = Literal["embed", "heads", "mlp", "vocab", "memories"] | None

# Below it, parameters have the layers of a group as their first axis.
_STACK = "stack/groups/"
# Below it, the own maps of a mixture's memories have the memories as their first axis.
_COPIES = "/memory/"


@dataclass(frozen=True, kw_only=True)
class Role:
    """What a parameter is for.

    Attributes:
        names: a regular expression for the end of the path, from a `/` on.
        axes: the logical name of each of the last axes. Of the axes before them,
            layers of a group are never split; copies of a memory are `memories`.
        decays: weight decay applies.
    """

    names: str
    axes: tuple[Axis, ...]
    decays: bool


# The first row that matches counts. `None`: never split.
ROLES: tuple[Role, ...] = (
    # The language model's own: nothing comes before them in the path.
    Role(names=r"(?<!/)(embedding|head)", axes=("vocab", "embed"), decays=True),
    Role(names=r"mlp/(up|gate)/kernel", axes=("embed", "mlp"), decays=True),
    Role(names=r"mlp/down/kernel", axes=("mlp", "embed"), decays=True),
    Role(names=r"(\w+_)?convolution/kernel", axes=(None, "heads"), decays=False),
    Role(
        names=r"(read_out/projection|output(_projection)?)/kernel",
        axes=("heads", "embed"),
        decays=True,
    ),
    Role(
        names=r"(query|key|value|gate|retrieval|retrieved)/kernel",
        axes=("embed", "heads"),
        decays=True,
    ),
    Role(names=r"(decay|time|gate)/down/kernel", axes=("embed", None), decays=True),
    Role(names=r"(decay|time|gate)/up/kernel", axes=(None, "heads"), decays=True),
    Role(names=r"router/kernel", axes=("embed", None), decays=True),
    Role(
        names=r"(write_strength|erase|decay|time)/kernel",
        axes=("embed", "heads"),
        decays=True,
    ),
    Role(
        names=r"(learning_rate|momentum|forget)/kernel",
        axes=("embed", "heads"),
        decays=True,
    ),
    Role(
        names=r"initial/(kernel_\d+|gate|up|down)",
        axes=("heads", None, None),
        decays=False,
    ),
    Role(names=r"initial/\w+", axes=("heads", None), decays=False),
    Role(names=r"memory_norm/\w+|step_scale", axes=(), decays=False),
    Role(names=r"persistent(_key|_value)?|learned_queries", axes=(), decays=False),
    Role(names=r"(\w+_)?norm/scale", axes=(None,), decays=False),
    Role(names=r"\w+/bias", axes=(None,), decays=False),
    Role(
        names=r"log_a|time_bias|skip|erase_bias|correction|lower_bound",
        axes=("heads",),
        decays=False,
    ),
)

# Parameters of layers that live elsewhere, by Flax's convention for names. No layer of
# this library may need them: a test looks.
ELSEWHERE: tuple[Role, ...] = (
    Role(names=r"\w+/kernel", axes=("embed", "heads"), decays=True),
    Role(names=r"\w+", axes=(), decays=False),
)


def role(name: str) -> Role:
    """The row of the table for the parameter at the path `name`."""
    return next(
        row for row in (*ROLES, *ELSEWHERE) if re.search(rf"(^|/)({row.names})$", name)
    )


def logical_axes(name: str, ndim: int) -> tuple[Axis, ...]:
    """The logical name of every axis of the parameter at the path `name`.

    Raises:
        InputError: the parameter has fewer axes than its role.
    """
    axes = role(name).axes
    least = len(axes) + name.startswith(_STACK)
    if axes and ndim == least + 1 and _COPIES in name:
        axes = ("memories", *axes)
    if ndim < least:
        raise InputError(
            f"parameter {name} has {ndim} axes and its role needs {least}; give it a "
            "row of its own in ROLES in train/roles.py"
        )
    return tuple([None] * (ndim - len(axes)) + list(axes))


def decay_mask(params: Mapping[str, Any]) -> dict[str, bool]:
    """Which parameters decay, by path."""
    return {name: role(name).decays for name in params}


def describe(params: Mapping[str, jax.ShapeDtypeStruct]) -> str:
    """The table as it applies to these parameters, one line each."""
    lines = []
    for name, leaf in sorted(params.items()):
        axes = ",".join(axis or "-" for axis in logical_axes(name, len(leaf.shape)))
        decay = "decays" if role(name).decays else "stays"
        lines.append(f"{name} {tuple(leaf.shape)} {axes} {decay}")
    return "\n".join(lines)
