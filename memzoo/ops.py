"""Operations on plain arrays: `b t h k` in, outputs and the last memory out."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from memzoo.errors import InputError, name_to_use

from .models.ops import attention as _attention
from .models.ops import delta_product as _delta_product
from .models.ops import delta_rule as _delta_rule
from .models.ops import erase_write as _erase_write
from .models.ops import least_squares as _least_squares
from .models.ops import low_rank as _low_rank
from .models.ops import momentum_delta as _momentum_delta
from .models.ops import oja_rule as _oja_rule
from .models.ops import scalar_decay as _scalar_decay
from .models.ops import vector_decay as _vector_decay

__all__ = [
    "attention",
    "erase_write_rule",
    "gated_delta_product",
    "gated_delta_rule",
    "gated_linear_attention",
    "gated_oja_rule",
    "least_squares",
    "linear_attention",
    "low_rank_rule",
    "momentum_delta_rule",
]

_OTHER_NAMES = {
    "chunk_gated_delta_product": "gated_delta_product",
    "chunk_gated_delta_rule": "gated_delta_rule",
    "chunk_gla": "gated_linear_attention",
    "chunk_dplr_delta_rule": "low_rank_rule",
    "chunk_kda": "erase_write_rule",
    "chunk_mesa_net": "least_squares",
    "chunk_momentum_delta_rule": "momentum_delta_rule",
    "chunk_retention": "linear_attention",
    "chunk_rwkv7": "low_rank_rule",
    "chunk_simple_gla": "linear_attention",
    "delta_rule": "gated_delta_rule",
    "dot_product_attention": "attention",
    "gla": "gated_linear_attention",
    "kda": "erase_write_rule",
    "retention": "linear_attention",
    "scaled_dot_product_attention": "attention",
    "ssd": "linear_attention",
}

_OTHER_ARGUMENTS = {
    "alpha": "log_decay",
    "b": "write_strength",
    "beta": "write_strength",
    "cu_seqlens": "reset",
    "decay": "log_decay",
    "g": "log_decay",
    "gate": "log_decay",
    "gk": "log_decay",
    "initial_memory": "memory",
    "initial_state": "memory",
    "k": "key",
    "key": "k",
    "keys": "key",
    "q": "query",
    "queries": "query",
    "query": "q",
    "segment_ids": "query_segment",
    "sliding_window": "window",
    "state": "memory",
    "v": "value",
    "value": "v",
    "values": "value",
    "window_size": "window",
}
"""Names of arguments in other libraries, and here."""

_OTHER_WAYS = {
    "scale": "multiply the queries by it",
    "output_final_state": "the memory is always returned",
    "head_first": "the axes are always `b t h ...`",
    "is_causal": "it is always causal",
    "causal": "it is always causal",
    "use_qk_l2norm_in_kernel": "normalise queries and keys before the call",
}
"""Arguments of other libraries, and what to do without them."""

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def _with_hints(
    operation: Callable[_Arguments, _Result],
) -> Callable[_Arguments, _Result]:
    """Return the operation with hints: an unknown argument raises InputError."""
    known = list(inspect.signature(operation).parameters)

    @functools.wraps(operation)
    def checked(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        for name in named:
            if name not in known:
                raise InputError(_no_argument(operation.__name__, name, known))
        return operation(*arguments, **named)

    return checked


def _no_argument(operation: str, name: str, known: list[str]) -> str:
    remedy = _OTHER_WAYS.get(name) or name_to_use(
        name, known, _OTHER_ARGUMENTS, rest="its arguments are"
    )
    return f"{operation} has no argument {name!r}; {remedy}"


attention = _with_hints(_attention.attention)
erase_write_rule = _with_hints(_erase_write.erase_write_rule)
gated_delta_product = _with_hints(_delta_product.gated_delta_product)
gated_delta_rule = _with_hints(_delta_rule.gated_delta_rule)
gated_linear_attention = _with_hints(_vector_decay.gated_linear_attention)
gated_oja_rule = _with_hints(_oja_rule.gated_oja_rule)
least_squares = _with_hints(_least_squares.least_squares)
linear_attention = _with_hints(_scalar_decay.linear_attention)
low_rank_rule = _with_hints(_low_rank.low_rank_rule)
momentum_delta_rule = _with_hints(_momentum_delta.momentum_delta_rule)


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    remedy = name_to_use(name, __all__, _OTHER_NAMES, rest="there are")
    raise AttributeError(f"memzoo.ops has no {name!r}; {remedy}")
