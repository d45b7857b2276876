"""`Batch`, the input and targets that a task gives a model."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32


class Batch(NamedTuple):
    """Rows of tokens and their targets.

    `targets[i]` is the required output at the same position: labels are already shifted
    and must not be shifted again.

    Attributes:
        tokens: input of the model.
        targets: required outputs at the positions of `target_positions`.
        target_positions: index in `tokens` of every target. `None`: there are as many
            targets as tokens, and target `i` belongs to position `i`.
        target_weights: weight of every target in loss and accuracy; 0 means ignored.
        reset: whether a document begins here. `None`: only at the row's first token.
        valid: whether the token is real, not padding. `None`: all are real.
        prefix: whether the token is read non-causally; a document begins with its
            prefix. `None`: no token is.
        context: number of tokens at the row's front that come before all questions.
            `None`: the task does not divide its rows.
    """

    tokens: Int32[np.ndarray, "b t"]
    targets: Int32[np.ndarray, "b n"]
    target_positions: Int32[np.ndarray, "b n"] | None
    target_weights: Float32[np.ndarray, "b n"]
    reset: Bool[np.ndarray, "b t"] | None = None
    valid: Bool[np.ndarray, "b t"] | None = None
    prefix: Bool[np.ndarray, "b t"] | None = None
    context: Int32[np.ndarray, "b"] | None = None
