"""Law of states with room for a limited number of tokens."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .agreement import TOLERANCE, BrokenLaw
from .models.interface import state_spec

Run = Callable[[Any, Any], tuple[Any, Any]]

# Capacities to test: a state for one call, and a state that is soon full.
_LENGTHS = (0, 4)


def check_room(subject: Any) -> None:
    """Check the law on a layer.

    Args:
        subject: a `_Subject` of `memzoo.testing`.

    Raises:
        BrokenLaw: a state gives an answer that the law does not allow.
    """
    rows, time, _ = subject.x.shape

    def new_state(length: int) -> Any:
        spec = state_spec(subject.layer, rows, length)
        if length >= time or _shapes(spec) == _shapes(subject.state):
            # Reuse the state, so that only small states need another program.
            return subject.state
        init = jax.jit(lambda params: subject.merge(params).init_state(rows, length))
        return init(subject.params)

    def run(x: Any, state: Any) -> Any:
        return subject.plain(subject.params, x, state)

    def steps(x: Any, state: Any) -> Any:
        masks = (subject.reset, subject.valid)
        return subject.steps(subject.params, x, state, *masks)

    def outside(x: Any, state: Any) -> Any:
        return subject.merge(subject.params)(jnp.asarray(x), state)

    check_capacity(new_state, run, steps, outside, subject.x)


def _shapes(state: Any) -> Any:
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)


def check_capacity(
    new_state: Callable[[int], Any], run: Run, steps: Run, outside: Run, x: Any
) -> None:
    """Check that a state answers exactly, or refuses tokens that it has no room for.

    A state has room for the `max_length` tokens that it was made for, or, made with 0,
    for one call of any length. Outputs of later tokens must be exact, or NaN inside jit
    and a ValueError outside.

    Args:
        new_state: maps `max_length` to the state of a new document.
        run: `(x, state) -> (y, state)`, the sequence form inside jit.
        steps: the same, token by token.
        outside: `run` outside jit.
        x: rows of an even number of tokens, in numpy, like the outputs.

    Raises:
        BrokenLaw: a state gives another answer.
    """
    time = x.shape[1]
    half = time // 2
    first, second = x[:, :half], x[:, half:]
    y, middle = run(first, new_state(time))
    whole = np.concatenate([y, run(second, middle)[0]], axis=1)
    for length in _LENGTHS:
        made = f"of a state with max_length {length}"
        state = new_state(length)
        fits = np.arange(time) < (length or half)
        y, middle = run(first, state)
        _compare(y, whole[:, :half], fits[:half], f"outputs {made}")
        later = f"outputs of a second call {made}"
        later_y = _or_refused(run, second, middle)
        _compare(later_y, whole[:, half:], fits[half:], later)
        # A call that gives NaN inside jit must raise outside.
        for part, held, given in ((first, state, y), (second, middle, later_y)):
            if given is None or np.any(np.isnan(given)):
                _check_refusal(outside, part, held, made)
        stepped = _or_refused(steps, x, state)
        fits = fits & (length > 0)
        _compare(stepped, whole, fits, f"outputs of steps {made}")


def _or_refused(run: Run, x: Any, state: Any) -> Any:
    """Return the outputs, or None if the call is refused by its shapes inside jit."""
    try:
        return run(x, state)[0]
    except ValueError as error:
        _check_message(error)
        return None


def _check_message(error: ValueError) -> None:
    if "max_length" not in str(error):
        raise error


def _check_refusal(outside: Run, x: Any, state: Any, made: str) -> None:
    try:
        outside(x, state)
    except ValueError as error:
        _check_message(error)
    else:
        raise BrokenLaw(f"outside jit no ValueError reports the lack of room {made}")


def _compare(y: Any, whole: Any, fits: Any, what: str) -> None:
    """Check that tokens that fit are exact, and all others exact or NaN."""
    if y is None:
        if np.any(fits):
            raise BrokenLaw(f"{what} are refused although there is room")
        return
    nothing = np.all(np.isnan(y), axis=(0, 2)) & ~fits
    error = np.abs(np.where(nothing[None, :, None], 0, y - whole))
    error = np.max(error, initial=0.0) / max(1.0, np.max(np.abs(whole), initial=0.0))
    if not error <= TOLERANCE:
        raise BrokenLaw(
            f"{what} are neither exact nor NaN: off by {error:.1e} of their size"
        )
