"""State of a training run: arrays by path, created in their shardings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Int, Key

from .sharding import tree_sharding

Arrays = dict[str, Array]
Build = Callable[[Key[Array, ""]], nnx.Module]


class TrainState(NamedTuple):
    """Everything that a step changes.

    Attributes:
        params: parameters by path.
        rest: every other Variable of the model by path.
        opt_state: optax's state; its moments are dictionaries by path too.
        step: steps done.
        failed_step: first step whose loss, gradient or new parameters were not finite;
            -1: none. From that step on, nothing else changes.
    """

    params: Arrays
    rest: Arrays
    opt_state: Any
    step: Int[Array, ""]
    failed_step: Int[Array, ""]


@dataclass(frozen=True)
class Template:
    """Model without its arrays, as `nnx.split` gives it."""

    graphdef: Any
    params: Any
    rest: Any

    def merge(self, params: Mapping[str, Any], rest: Mapping[str, Any]) -> Any:
        """Return the model with these arrays."""
        return nnx.merge(
            self.graphdef, _fill(self.params, params), _fill(self.rest, rest)
        )

    def shapes(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return shapes and types of the parameters and of the rest, by path."""
        return by_path(self.params), by_path(self.rest)


def make_template(build: Build) -> Template:
    """Return the model that `build` makes, without allocating anything."""
    model = nnx.eval_shape(build, jax.random.key(0))
    return Template(*nnx.split(model, nnx.Param, ...))


def by_path(state: Any) -> dict[str, Any]:
    """Return the values of the Variables of an `nnx.State`, by path."""
    return {
        "/".join(map(str, path)): variable.get_value()
        for path, variable in nnx.to_flat_state(state)
    }


def _fill(template: Any, values: Mapping[str, Any]) -> Any:
    return nnx.from_flat_state(
        (path, variable.replace(values["/".join(map(str, path))]))
        for path, variable in nnx.to_flat_state(template)
    )


def init_state(
    build: Build, optimizer: optax.GradientTransformation, key: Key[Array, ""]
) -> TrainState:
    """Return the state before the first step."""
    _, params, rest = nnx.split(build(key), nnx.Param, ...)
    arrays = by_path(params)
    return TrainState(
        params=arrays,
        rest=by_path(rest),
        opt_state=optimizer.init(arrays),
        step=jnp.zeros((), jnp.int32),
        failed_step=jnp.full((), -1, jnp.int32),
    )


def state_specs(
    mesh: Mesh,
    build: Build,
    optimizer: optax.GradientTransformation,
) -> TrainState:
    """Return shapes, types and shardings of the state; nothing is allocated."""
    shapes = jax.eval_shape(
        lambda key: init_state(build, optimizer, key), jax.random.key(0)
    )
    places = tree_sharding(mesh, shapes.params, shapes)
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=place
        ),
        shapes,
        places,
    )


def shardings(specs: Any) -> Any:
    """Return only the shardings."""
    return jax.tree.map(lambda leaf: leaf.sharding, specs)


def born_sharded(
    build: Build,
    optimizer: optax.GradientTransformation,
    specs: TrainState,
    key: Key[Array, ""],
) -> TrainState:
    """Return the state before the first step; each device creates its own part."""
    make = jax.jit(
        lambda key: init_state(build, optimizer, key), out_shardings=shardings(specs)
    )
    return make(key)
