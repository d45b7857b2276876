"""Laws of layers that read the beginning of a document, its prefix, non-causally."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .agreement import BrokenLaw, equal, near

Run = Callable[..., tuple[Any, Any]]

# Lengths of the prefixes of the two rows; None: the whole row.
_LENGTHS = ((0, None), (1, 8), (7, 13))


def check_prefix(run: Run, plain: Run, x: Any) -> None:
    """Check that a document sees its whole prefix, and nothing else non-causally.

    Args:
        run: `(x, state, reset, valid, prefix) -> (y, state)`; all but x are optional.
        plain: `(x) -> (y, state)` without masks.
        x: two rows, in numpy, like the outputs of `run` and `plain`.

    Raises:
        BrokenLaw: the first check that fails.
    """
    time = x.shape[1]
    for lengths in _LENGTHS:
        prefix = _marked(time, lengths)
        y, state = run(x, prefix=prefix)
        _check_causality(run, x, prefix, y)
        _check_parts(run, x, prefix, y, state)
        _check_padding(run, x, prefix)
        _check_gap(run, x, prefix, y)
    y, _ = run(x, prefix=_marked(time, (0, 0)))
    near(y, plain(x)[0], "outputs with an empty prefix")
    _check_documents(run, x)


def _marked(time: int, lengths: tuple[int | None, int | None]) -> Any:
    ends = np.array([[time if n is None else n] for n in lengths])
    return np.arange(time)[None, :] < ends


def _check_causality(run: Run, x: Any, prefix: Any, y: Any) -> None:
    """Check that outputs see all of their prefix, and no later token after it."""
    time = x.shape[1]
    lengths = np.asarray(prefix).sum(axis=1)
    for row, length in enumerate(lengths):
        for at in {length, min(length + 3, time - 1), time - 1} - {time}:
            if at < length:
                continue
            other = x.copy()
            other[row, at:] += 1.0 + x[row, :1]
            changed, _ = run(other, prefix=prefix)
            equal(changed[row, :at], y[row, :at], f"outputs before {at}")
        if length > 1:
            other = x.copy()
            other[row, length - 1] *= -2.0
            changed, _ = run(other, prefix=prefix)
            if np.array_equal(changed[row, 0], y[row, 0]):
                raise BrokenLaw(f"the first of {length} tokens of a prefix is causal")


def _check_parts(run: Run, x: Any, prefix: Any, y: Any, state: Any) -> None:
    """Check that two calls, split after the prefix, equal one."""
    time = x.shape[1]
    longest = int(np.asarray(prefix).sum(axis=1).max())
    for split in {longest, min(longest + 2, time)}:
        first = np.broadcast_to(np.arange(time)[None, :] < split, prefix.shape)
        before, middle = run(x, valid=first, prefix=prefix)
        # Marks in a document that began in an earlier call are read causally.
        behind, after = run(x, state=middle, valid=~first, prefix=~first)
        near(before + behind, y, f"outputs after a prefix, split at {split},")
        near(after, state, f"final states after a prefix, split at {split},")


def _check_padding(run: Run, x: Any, prefix: Any) -> None:
    """Check that padding on the left changes nothing."""
    time, extra = x.shape[1], 4
    shifted = np.roll(x, extra, axis=1)
    shifted[:, :extra] = np.nan
    index = np.arange(time)[None, :]
    real = np.broadcast_to(index >= extra, prefix.shape)
    padded, _ = run(shifted, valid=real, prefix=np.roll(prefix, extra, axis=1) | ~real)
    kept = np.broadcast_to(index < time - extra, prefix.shape)
    short, _ = run(x, valid=kept, prefix=prefix)
    near(padded[:, extra:], short[:, : time - extra], "outputs after padding")


def _check_gap(run: Run, x: Any, prefix: Any, y: Any) -> None:
    """Check that marks after an unmarked token are read causally."""
    index = np.arange(x.shape[1])[None, :]
    length = np.sum(prefix, axis=1)[:, None]
    marked, _ = run(x, prefix=prefix | (index > length))
    near(marked, y, "outputs with marks after a gap")


def _check_documents(run: Run, x: Any) -> None:
    """Check that packed documents with prefixes equal separate ones."""
    time = x.shape[1]
    starts, lengths = (0, 5, 6, 13), (3, 1, 7, 2)
    index = np.arange(time)
    prefix, reset = np.zeros((2, time), bool), np.zeros((2, time), bool)
    for start, length in zip(starts, lengths, strict=True):
        prefix[:, start : start + length] = True
        reset[:, start] = True
    # The first row continues a document of an earlier call.
    _, carried = run(x)
    reset[0, 0] = False
    y, state = run(x, state=carried, reset=reset, prefix=prefix)
    for start, end in zip(starts, (*starts[1:], time), strict=True):
        alone = np.broadcast_to((index >= start) & (index < end), (2, time))
        rows = slice(1, 2) if start == 0 else slice(0, 2)
        separate, _ = run(x, valid=alone, prefix=prefix)
        near(
            np.where(alone[rows, :, None], y[rows], 0),
            separate[rows],
            f"outputs of the document with a prefix at {start}",
        )
    begun = np.broadcast_to(index < starts[1], (2, time))
    first, _ = run(x, state=carried, valid=begun)
    near(y[0, : starts[1]], first[0, : starts[1]], "outputs of a continued document")
    # Invisible slots of a cache may differ, so compare outputs and not states.
    last = np.broadcast_to(index >= starts[-1], (2, time))
    _, alone = run(x, valid=last, prefix=prefix)
    answers = [run(x[:, ::-1], state=each)[0] for each in (state, alone)]
    near(answers[0], answers[1], "outputs after packed prefixes")
