"""What a task hands to the model: one `Batch`."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32


class Batch(NamedTuple):
    """Rows of tokens and what the model must put out for them.

    `targets[i]` is what the model must put out at the position's own index: labels are
    already shifted, and nobody shifts them again.

    Attributes:
        tokens: what the model reads.
        targets: what it must put out, at the positions where something is asked.
        target_positions: the index in `tokens` of every target. `None`: there are as
            many targets as tokens, and target `i` belongs to position `i`.
        target_weights: weight of every target in loss and accuracy; 0 is ignored.
        reset: a document begins here. `None`: at no place but the row's first.
        valid: a real token, not padding. `None`: all of them.
        prefix: read non-causally; a document begins with it. `None`: nothing is.
        context: tokens at the row's front that are given before anything is asked; the
            rest asks. `None`: the task makes no such division.
    """

    tokens: Int32[np.ndarray, "b t"]
    targets: Int32[np.ndarray, "b n"]
    target_positions: Int32[np.ndarray, "b n"] | None
    target_weights: Float32[np.ndarray, "b n"]
    reset: Bool[np.ndarray, "b t"] | None = None
    valid: Bool[np.ndarray, "b t"] | None = None
    prefix: Bool[np.ndarray, "b t"] | None = None
    context: Int32[np.ndarray, "b"] | None = None
