"""Longhorn: a matrix memory that solves a proximal problem at every token."""

from dataclasses import dataclass
from typing import ClassVar

from memzoo.errors import InputError

from .delta_net import DeltaNetConfig
from .regression import Regression
from .step_size import StepSize


@dataclass(frozen=True, kw_only=True)
class LonghornConfig(DeltaNetConfig):
    """Longhorn (Liu et al. 2024, arXiv:2407.14207).

    Per head, with beta_t = sigmoid(w_b . x_t), queries of length 1 and keys of any
    length, the memory is the solution of

        S_t = argmin_S |S - S_(t-1)|^2 + beta_t |S^T k_t - v_t|^2
            = S_(t-1) + beta_t / (1 + beta_t |k_t|^2) k_t (v_t - S_(t-1)^T k_t)^T
        o_t = S_t^T q_t / sqrt(head size)

    This is delta_net with the implicit step: no key is too long for it.

    Differs from it in: beta_t is one number per head, not one per channel of the value;
    the step is exact, where the published kernel keeps only the diagonal of k k^T; the
    streams and the read-out are those of delta_net, not those of Mamba.
    """

    regression: ClassVar[Regression | None] = Regression(
        "uniform", "linear", "implicit"
    )

    step_size: StepSize = "implicit"
    """Always implicit; delta_net has the others."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step_size != "implicit":
            raise InputError(
                f"step_size is {self.step_size!r}, and longhorn is the implicit step; "
                "use delta_net for others"
            )
