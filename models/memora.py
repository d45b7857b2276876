"""Memora: a neural memory of positive weights, kept close by their KL divergence."""

from dataclasses import dataclass

from .miras import MirasConfig
from .ops.write_rule import WriteRule


@dataclass(frozen=True, kw_only=True)
class MemoraConfig(MirasConfig):
    """Memora of MIRAS (Behrouz et al. 2025, arXiv:2504.13173).

    Per head, with keys and queries of length 1 and W' the weights before the window of
    t:

        W_t = c softmax((1 - alpha_t) log W_(t-1) - theta_t grad_W l_t)
        l_t = ||M(W'; k_t) - v_t||^2 / 2
        y_t = W_o (norm(M(W_t; q_t)) * silu(W_g x_t))

    M(W; z) = z + norm(W_1 gelu(W_2 z)). The softmax is over the inputs of each output
    of a matrix, so W_t is the minimum, over weights with the sum c, of a linear loss, a
    KL divergence from W_(t-1) and an entropy. Scaling the weights of a softmax adds a
    constant to their logs, so the memory keeps the logs before the softmax:
    A_t = (1 - alpha_t) A_(t-1) - theta_t grad_W l_t and W_t = c softmax(A_t).

    Differs from it in: c is the number of inputs, which makes 1 the mean weight (the
    paper names no value, and no axis of the softmax); the first logs are learned and
    have standard deviation 1; gates are numbers per head and token, where the paper has
    one per channel; gradients longer than `clip` are shortened to it (None: as
    published).
    """

    def write_rule(self) -> WriteRule:
        return WriteRule(
            update_every=self.update_every,
            loss="half",
            link="softmax",
            clip=self.clip,
        )
