"""Test-time regression (arXiv:2501.12352): the three choices that make a layer.

A layer keeps the function m_t that fits the values at the keys read so far,

    m_t = argmin_m sum_(s <= t) w_s(t) |v_s - m(k_s)|^2 / 2,

and returns m_t(q_t). The weights w, the class of m and the solver are free.
"""

from typing import Literal, NamedTuple

Weights = Literal["uniform", "scalar_decay", "channel_decay", "kernel"]
Regressor = Literal["constant", "linear", "polynomial", "mlp"]
Solver = Literal[
    "one_step",
    "online",
    "several_steps",
    "implicit",
    "exact",
    "conjugate_gradients",
]


class Regression(NamedTuple):
    """A layer's place on the map of test-time regression.

    Attributes:
        weights: weights of the tokens in the sum of squares.
        regressor: class of functions; `features` are linear in a feature map of the
            key, `kernel` is a sum of kernels around the keys.
        solver: way to the minimum; `online_momentum` adds past steps to each step.
    """

    weights: Weights
    regressor: Regressor | Literal["features", "kernel"]
    solver: Solver | Literal["online_momentum"]
