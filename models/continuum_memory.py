"""Continuum memory: a chain of networks, each written more rarely than the last."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from flax import nnx
from jaxtyping import Array

from .layer_checks import check_positive
from .layer_config import Family
from .regression import Regression
from .titans_lmm import TitansLMM, TitansLMMConfig


@dataclass(frozen=True, kw_only=True)
class ContinuumMemoryConfig(TitansLMMConfig):
    """The continuum memory system of nested learning (arXiv:2512.24695).

    Per head, with K `levels`, C = `update_every` tokens and r = `level_ratio`, the
    memory is a chain of networks f_1 to f_K with weights W_1 to W_K:

        y_t = W_o (norm(f_K(.. f_1(q_t))) * silu(W_g x_t))
        W_l <- W_l - sum_j (theta_j / r^(l-1)) u_j,l   every C r^(l-1) tokens
        u_j,l = grad_(W_l) ||f_K(.. f_1(k_j)) - v_j||^2

    The sum is over the tokens since the last update. Between updates W_l is constant,
    in reads and in gradients, so a level changes r times more rarely than the one
    before it. Counts begin at the document's start.

    One level is titans_lmm with `read` window and without momentum and forgetting.
    Windows longer than the document make it a chain of MLPs without any memory. The
    other options are those of titans_lmm.

    Differs from it in: the published loss of a level is the model's own, on the next
    token; here it is the error of the chain as an associative memory, so that a layer
    is trained like the others. Streams, gates, norm and clip are those of titans_lmm.
    Dividing theta by r^(l-1) is ours: without it the step of a slow level grows with
    its window. The published variants with levels side by side, or with each level's
    initial weights from the next, are left out.
    """

    family: ClassVar[Family] = "hierarchical memory"
    regression: ClassVar[Regression | None] = None
    small: ClassVar[Mapping[str, Any]] = {
        "num_heads": 2,
        "levels": 2,
        "update_every": 2,
        "level_ratio": 2,
        "memory_depth": 1,
        "chunk_size": 4,
    }

    levels: int = 3
    """Number of networks in the chain."""
    level_ratio: int = 4
    """Ratio of the window of a level to that of the level before; changes the
    result."""
    memory_residual: bool = True
    """Add each level's input to its output."""
    momentum: bool = False
    """Use past surprise, eta, as titans_lmm does; published: False."""
    forget: bool = False
    """Use forgetting, alpha, as titans_lmm does; published: False."""
    read: Literal["after", "before", "window"] = "window"
    """Read the weights before the window, as published, or those after or before the
    token's own write."""
    persistent_tokens: int = 0
    """Number of learned tokens that a new memory has read; 0: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("levels", self.levels)
        check_positive("level_ratio", self.level_ratio)

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "ContinuumMemory":
        del layer_index
        return ContinuumMemory(self, width, rngs, depth)


class ContinuumMemory(TitansLMM):
    """See `ContinuumMemoryConfig`."""

    def __init__(
        self, config: ContinuumMemoryConfig, width: int, rngs: nnx.Rngs, depth: int
    ):
        super().__init__(config, width, rngs, depth)
        self.network = dataclasses.replace(self.network, levels=config.levels)
        # With one level there is no ratio.
        ratio = config.level_ratio if config.levels > 1 else 1
        self.write_rule = dataclasses.replace(self.write_rule, level_ratio=ratio)
        self.make_initial(config.num_heads, rngs, scale=0.1)
