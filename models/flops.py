"""FLOPs counted from the traced program; layers need not declare them."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

_ELEMENTWISE = {
    "add", "sub", "mul", "div", "max", "min", "neg", "exp", "exp2", "log", "log1p",
    "expm1", "tanh", "logistic", "rsqrt", "sqrt", "pow", "integer_pow", "square",
    "select_n", "cumsum", "reduce_sum", "reduce_max",
}  # fmt: skip


def count_flops(function: Callable, *arguments: Any) -> int:
    """Count the floating-point operations of one call, without running it.

    A matrix product counts two per multiply and add, an elementwise operation one per
    number. A scan counts its body once per iteration (XLA's own cost analysis counts it
    once in all), and a condition its longer branch. If a loop's length is unknown while
    tracing, its body counts as often as its slices fit into the sliced array (all tiles
    of a cache), or once if it takes no slices.

    Args:
        arguments: arrays or `jax.ShapeDtypeStruct`.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Any) -> int:
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: Any) -> int:
    name = equation.primitive.name
    if name == "dot_general":
        contract, _ = equation.params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        summed = math.prod(shape[axis] for axis in contract[0])
        return 2 * summed * math.prod(equation.outvars[0].aval.shape)
    if name == "scan":
        return equation.params["length"] * _count(equation.params["jaxpr"].jaxpr)
    if name == "while":
        body = equation.params["body_jaxpr"].jaxpr
        return _most_turns(body, equation.params["body_nconsts"]) * _count(body)
    if name == "cond":
        return max(_count(branch.jaxpr) for branch in equation.params["branches"])
    if name == "custom_linear_solve":
        return _count(equation.params["jaxprs"].solve.jaxpr)
    inner = [_as_jaxpr(value) for value in equation.params.values()]
    found = [jaxpr for jaxpr in inner if jaxpr is not None]
    if found:
        return sum(_count(jaxpr) for jaxpr in found)
    if name in _ELEMENTWISE:
        reduced = name.startswith("reduce")
        side = equation.invars if reduced else equation.outvars
        return math.prod(side[0].aval.shape)
    return 0


def _most_turns(body: Any, num_constants: int) -> int:
    """Return how many slices fit along the axis that the loop moves along."""
    moving = set(body.invars[num_constants:])
    most = 1
    for equation in body.eqns:
        inputs = {v for v in equation.invars if not isinstance(v, core.Literal)}
        if equation.primitive.name == "dynamic_slice":
            whole = equation.invars[0].aval.shape
            starts = equation.invars[1:]
            sizes = equation.params["slice_sizes"]
            for length, start, size in zip(whole, starts, sizes, strict=True):
                if not isinstance(start, core.Literal) and start in moving:
                    most = max(most, length // size)
        if inputs & moving:
            moving.update(equation.outvars)
    return most


def _as_jaxpr(value: Any) -> Any:
    if isinstance(value, core.ClosedJaxpr):
        return value.jaxpr
    return value if isinstance(value, core.Jaxpr) else None
