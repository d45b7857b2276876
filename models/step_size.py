"""Step sizes of the delta rule: the gate, or the gate scaled to the key's length."""

from typing import Literal, get_args

import jax.numpy as jnp
from jaxtyping import Array, Float

from memzoo.errors import InputError

from .layer_checks import check_choice
from .ops.normalisation import l2_normalise

StepSize = Literal["gate", "implicit", "kaczmarz", "error_free"]

# Added to, or the least of, a squared length that is a divisor.
_SMALLEST = 1e-6


def check_step_size(step_size: str, *, negative_eigenvalues: bool) -> None:
    """Raise InputError for an unknown step size, or one that cannot be negative."""
    check_choice("step_size", step_size, get_args(StepSize))
    if negative_eigenvalues and step_size in ("implicit", "error_free"):
        raise InputError(
            f"step_size {step_size} has no negative eigenvalues; set "
            "negative_eigenvalues to False, or choose gate or kaczmarz"
        )


def key_and_step(
    step_size: StepSize, key: Float[Array, "b t h k"], gate: Float[Array, "b t h"]
) -> tuple[Float[Array, "b t h k"], Float[Array, "b t h"]]:
    """Return the key of the delta rule and the size of its gradient step.

    With the gate b and the squared length l = |k|^2 of the key, the error at the key is
    multiplied by 1 - l step:

        gate        k / |k|, b          1 - b
        implicit    k, b / (1 + b l)    1 / (1 + b l)   arXiv 2407.14207
        kaczmarz    k, b / l            1 - b           arXiv 2605.08587
        error_free  k, (1 - e^(-b l)) / l    e^(-b l)   arXiv 2512.12602

    `implicit` minimises |S - S_(t-1)|^2 + b |S^T k - v|^2. `kaczmarz` projects on the
    solutions of S^T k = v if b is 1. `error_free` follows the gradient for the time b.

    Args:
        step_size: one of the four.
        key: keys of any length.
        gate: gates b, float32.
    """
    if step_size == "gate":
        return l2_normalise(key), gate
    wide = key.astype(jnp.promote_types(key.dtype, jnp.float32))
    length = jnp.sum(jnp.square(wide), axis=-1)
    if step_size == "implicit":
        return key, gate / (1 + gate * length)
    if step_size == "kaczmarz":
        return key, gate / (length + _SMALLEST)
    length = jnp.maximum(length, _SMALLEST)
    return key, -jnp.expm1(-gate * length) / length
