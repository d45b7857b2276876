"""FLOPs counted from the traced program, so that no layer declares its own."""

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
    """Floating-point operations of one call; nothing runs and nothing is allocated.

    A product of matrices counts two for every multiply and add, an elementwise
    operation one a number. A scan counts its body as often as it runs (XLA's own cost
    analysis counts it once). A loop whose length is not known while tracing counts
    once.

    Args:
        arguments: arrays, or `jax.ShapeDtypeStruct` in their place.
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
    if name == "cond":
        return max(_count(branch.jaxpr) for branch in equation.params["branches"])
    inner = [_as_jaxpr(value) for value in equation.params.values()]
    found = [jaxpr for jaxpr in inner if jaxpr is not None]
    if found:
        return sum(_count(jaxpr) for jaxpr in found)
    if name in _ELEMENTWISE:
        reduced = name.startswith("reduce")
        side = equation.invars if reduced else equation.outvars
        return math.prod(side[0].aval.shape)
    return 0


def _as_jaxpr(value: Any) -> Any:
    if isinstance(value, core.ClosedJaxpr):
        return value.jaxpr
    return value if isinstance(value, core.Jaxpr) else None
