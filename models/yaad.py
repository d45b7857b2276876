"""Yaad: a neural memory with a Huber loss, which limits the steps of large errors."""

from dataclasses import dataclass

from .miras import MirasConfig
from .ops.write_rule import WriteRule


@dataclass(frozen=True, kw_only=True)
class YaadConfig(MirasConfig):
    """Yaad of MIRAS (Behrouz et al. 2025, arXiv:2504.13173).

    Per head, with keys and queries of length 1, r_t = M'(k_t) - v_t and M' the memory
    before the window of t:

        l_t = ||r_t||^2 / 2 if ||r_t|| <= delta_t, else delta_t ||r_t|| - delta_t^2 / 2
        M_t = (1 - alpha_t) M_(t-1) - theta_t grad_M l_t
        delta_t = sqrt(head size) softplus(w . x_t + b)
        y_t = W_o (norm(M_t(q_t)) * silu(W_g x_t))

    M(z) = z + norm(W_1 gelu(W_2 z)). A threshold far above all errors makes the loss
    half the squared error.

    Differs from it in: the Huber loss is one of the error's length, not of each of its
    entries (the paper allows both readings, and its condition is on the length); gates
    are numbers per head and token, where the paper has one per channel; delta_t begins
    near the length of a vector of unit variance; gradients longer than `clip` are
    shortened to it (None: as published).
    """

    def write_rule(self) -> WriteRule:
        return WriteRule(update_every=self.update_every, loss="huber", clip=self.clip)
