"""TTT-MLP: a TTT layer whose hidden state is a network of two layers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array

from .regression import Regression
from .ttt_linear import TTT, TTTConfig


@dataclass(frozen=True, kw_only=True)
class TTTMLPConfig(TTTConfig):
    """TTT-MLP (Sun et al. 2024, arXiv:2407.04620), as its authors compute it.

    As `TTTLinearConfig`, with f(x) = x + norm(gelu(x W_1 + b_1) W_2 + b_2) and a hidden
    size of four times the head size.

    Differs from it in: the same points as `TTTLinearConfig`; the inner learning rate is
    not warmed up with the outer one.
    """

    regression: ClassVar[Regression | None] = Regression("uniform", "mlp", "online")
    small: ClassVar[Mapping[str, Any]] = {"update_every": 4, "backbone": "transformer"}

    base_learning_rate: float = 0.1
    """Largest inner learning rate, before division by the head size."""

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> TTT:
        del layer_index
        return TTT(self, width, rngs, depth, memory_depth=2)
