"""Operations on plain arrays: `b t h k` in, outputs and the last memory out."""

from difflib import get_close_matches
from typing import Any

from .models.ops.attention import attention
from .models.ops.delta_product import gated_delta_product
from .models.ops.delta_rule import gated_delta_rule
from .models.ops.erase_write import erase_write_rule
from .models.ops.low_rank import low_rank_rule
from .models.ops.momentum_delta import momentum_delta_rule
from .models.ops.oja_rule import gated_oja_rule
from .models.ops.scalar_decay import linear_attention
from .models.ops.vector_decay import gated_linear_attention

__all__ = [
    "attention",
    "erase_write_rule",
    "gated_delta_product",
    "gated_delta_rule",
    "gated_linear_attention",
    "gated_oja_rule",
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


def __getattr__(name: str) -> Any:
    close = get_close_matches(name, __all__, n=1)
    if name in _OTHER_NAMES:
        remedy = f"it is called {_OTHER_NAMES[name]} here"
    elif close:
        remedy = f"did you mean {close[0]}?"
    else:
        remedy = f"there are {', '.join(__all__)}"
    raise AttributeError(f"memzoo.ops has no {name!r}; {remedy}")
