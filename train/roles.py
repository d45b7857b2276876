"""Roles of all parameters in one table: how each is sharded, and whether it decays."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax

from memzoo.errors import InputError

Axis = Literal["embed", "heads", "mlp", "vocab", "memories"] | None

# Parameters under this path have the layers of a group as their first axis.
_STACK = "stack/groups/"
# Under this path, a mixture's separate maps have the memories as their first axis.
_COPIES = "/memory/"


@dataclass(frozen=True, kw_only=True)
class Role:
    """Role of a parameter.

    Attributes:
        names: regular expression for the end of the path, starting after a `/`.
        axes: logical name of each of the last axes. Of the axes before them, layers of
            a group are never sharded; copies of a memory are `memories`.
        decays: whether weight decay applies.
    """

    names: str
    axes: tuple[Axis, ...]
    decays: bool


# The first matching row applies. `None`: never sharded.
ROLES: tuple[Role, ...] = (
    # Parameters of the language model itself, at the start of the path.
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
        names=r"(query|key|value|gate|slope|retrieval|retrieved)/kernel",
        axes=("embed", "heads"),
        decays=True,
    ),
    Role(
        names=r"(decay|time|gate|write_strength)/down/kernel",
        axes=("embed", None),
        decays=True,
    ),
    Role(
        names=r"(decay|time|gate|write_strength)/up/kernel",
        axes=(None, "heads"),
        decays=True,
    ),
    Role(names=r"(router|angle|score)/kernel", axes=("embed", None), decays=True),
    Role(
        names=r"(write_strength|step_size|erase|decay|time|mix|trapezoid)/kernel"
        r"|level_weight/kernel",
        axes=("embed", "heads"),
        decays=True,
    ),
    Role(
        names=r"(learning_rate|momentum|forget|threshold)/kernel",
        axes=("embed", "heads"),
        decays=True,
    ),
    Role(
        names=r"(slow_(query|key|value|learning_rate|momentum|forget)|feedback|mixture)"
        r"/kernel",
        axes=(None, "heads"),
        decays=True,
    ),
    Role(
        names=r"(slow_)?initial/(level_\d+_)?(kernel_\d+|gate|up|down)",
        axes=("heads", None, None),
        decays=False,
    ),
    Role(names=r"(slow_)?initial/\w+", axes=("heads", None), decays=False),
    Role(names=r"memory_norm/\w+|step_scale|feature_scale", axes=(), decays=False),
    Role(names=r"ridge/unbounded", axes=(), decays=False),
    Role(
        names=r"persistent(_key|_value)?|learned_queries|initial_memory",
        axes=(),
        decays=False,
    ),
    Role(
        names=r"(query|key)_bias|mimo_(value|gate|read)",
        axes=("heads", None, None),
        decays=False,
    ),
    Role(names=r"level_weight/(scale|bias)", axes=("heads", None), decays=False),
    Role(names=r"token_shift", axes=(None, None), decays=False),
    Role(names=r"(\w+_)?norm/scale", axes=(None,), decays=False),
    Role(names=r"\w+/bias", axes=(None,), decays=False),
    Role(
        names=r"log_a|time_bias|skip|erase_bias|correction|centre|lower_bound|bonus"
        r"|removal_scale|write_scale|memory_share|attention_scale|store_(gate|sink)",
        axes=("heads",),
        decays=False,
    ),
)

# Parameters of layers from outside, by Flax's naming convention. No layer of this
# library may need them; a test checks that.
ELSEWHERE: tuple[Role, ...] = (
    Role(names=r"\w+/kernel", axes=("embed", "heads"), decays=True),
    Role(names=r"\w+", axes=(), decays=False),
)


def role(name: str) -> Role:
    """Return the row of the table for the parameter at the path `name`."""
    return next(
        row for row in (*ROLES, *ELSEWHERE) if re.search(rf"(^|/)({row.names})$", name)
    )


def logical_axes(name: str, ndim: int) -> tuple[Axis, ...]:
    """Return the logical name of every axis of the parameter at the path `name`.

    Raises:
        InputError: the parameter has fewer axes than its role.
    """
    axes = role(name).axes
    least = len(axes) + name.startswith(_STACK)
    if axes and ndim == least + 1 and _COPIES in name:
        axes = ("memories", *axes)
    if ndim < least:
        raise InputError(
            f"parameter {name} has {ndim} axes and its role needs {least}; add a row "
            "for it to ROLES in train/roles.py"
        )
    return tuple([None] * (ndim - len(axes)) + list(axes))


def decay_mask(params: Mapping[str, Any]) -> dict[str, bool]:
    """Return whether each parameter decays, by path."""
    return {name: role(name).decays for name in params}


def describe(params: Mapping[str, jax.ShapeDtypeStruct]) -> str:
    """Return the table as it applies to these parameters, one line each."""
    lines = []
    for name, leaf in sorted(params.items()):
        axes = ",".join(axis or "-" for axis in logical_axes(name, len(leaf.shape)))
        decay = "decays" if role(name).decays else "stays"
        lines.append(f"{name} {tuple(leaf.shape)} {axes} {decay}")
    return "\n".join(lines)
