"""Fields that the three memories of MIRAS share: yaad, moneta and memora."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array

from .gated_neural_memory import GatedNeuralMemory, GatedNeuralMemoryConfig
from .ops.memory_network import MemoryNetwork
from .regression import Regression


@dataclass(frozen=True, kw_only=True)
class MirasConfig(GatedNeuralMemoryConfig):
    """Network and build of the memories of MIRAS (arXiv:2504.13173).

    The memory is M(z) = z + norm(W_1 gelu(W_2 z)), with a norm to mean 0 and variance
    1. It has no momentum.
    """

    regression: ClassVar[Regression | None] = Regression(
        "scalar_decay", "mlp", "online"
    )
    small: ClassVar[Mapping[str, Any]] = {"update_every": 4, "memory_depth": 1}

    def memory_network(self, size: int) -> MemoryNetwork:
        plain = super().memory_network(size)
        return dataclasses.replace(plain, residual=True, norm="plain")

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "Miras":
        del layer_index
        return Miras(self, width, rngs, depth)


class Miras(GatedNeuralMemory):
    """See `YaadConfig`, `MonetaConfig` and `MemoraConfig`."""
