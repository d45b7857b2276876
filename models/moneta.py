"""Moneta: a neural memory with a loss in a p-norm and weights in a q-norm."""

from dataclasses import dataclass

from memzoo.errors import InputError

from .miras import MirasConfig
from .ops.write_rule import WriteRule


@dataclass(frozen=True, kw_only=True)
class MonetaConfig(MirasConfig):
    """Moneta of MIRAS (Behrouz et al. 2025, arXiv:2504.13173).

    Per head, with keys and queries of length 1 and W' the weights before the window of
    t:

        A_t = (1 - alpha_t) A_(t-1) - theta_t grad_W sum_i |M(W'; k_t) - v_t|_i^p
        W_t = A_t / ||A_t||_q^(q - 2)
        y_t = W_o (norm(M(W_t; q_t)) * silu(W_g x_t))

    M(W; z) = z + norm(W_1 gelu(W_2 z)), and ||A||_q is the q-norm of all entries of a
    matrix. With p = 2 and q = 2, W = A and the loss is the squared error.

    Differs from it in: |r| is sqrt(r^2 + 1e-6), which has all derivatives; the norm is
    taken per matrix and at every token, where the paper names neither; gates are
    numbers per head and token, where the paper has one per channel; gradients longer
    than `clip` are shortened to it (None: as published). The printed map from A to W is
    used, though it is the gradient of ||A||_q^2 / 2 only for q = 2: for q = 4 a longer
    A gives shorter weights.
    """

    loss_power: float = 3.0
    """p of the loss, above 1."""
    norm_power: float = 4.0
    """q of the norm, 2 or more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least, above in (
            ("loss_power", self.loss_power > 1, "above 1"),
            ("norm_power", self.norm_power >= 2, "of 2 or more"),
        ):
            if not least:
                raise InputError(f"{name} is {getattr(self, name)}; give one {above}")

    def write_rule(self) -> WriteRule:
        return WriteRule(
            update_every=self.update_every,
            loss="power",
            loss_power=self.loss_power,
            link="q_norm",
            link_power=self.norm_power,
            clip=self.clip,
        )
