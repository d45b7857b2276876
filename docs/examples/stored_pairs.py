"""Draw what four memories have stored: pair i, read again after t writes.

    python docs/examples/stored_pairs.py docs/images/stored_pairs.png

Each memory reads the same pairs of a key and a value. After every write it is read at
all keys so far, without writing. Keys are orthogonal, or share a common part.
"""

import sys
from functools import partial
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

import memzoo

MEMORIES = {
    "linear attention": memzoo.ops.linear_attention,
    "delta rule": partial(memzoo.ops.gated_delta_rule, write_strength=1.0),
    "delta rule, decay 0.9": partial(
        memzoo.ops.gated_delta_rule, write_strength=1.0, log_decay=np.log(0.9)
    ),
    "least squares": partial(memzoo.ops.least_squares, ridge=1e-5, solver="exact"),
}


def make_keys(size: int, share: float, seed: int = 0) -> np.ndarray:
    """Return `size` keys of length 1 with inner products `share` squared on average."""
    rng = np.random.default_rng(seed)
    keys = np.linalg.qr(rng.normal(size=(size, size)))[0]
    common = keys.sum(0) / np.sqrt(size)
    keys = share * common + np.sqrt(1 - share**2) * keys
    return keys / np.linalg.norm(keys, axis=1, keepdims=True)


def errors(memory_of, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the relative error of pair i after t writes; NaN before it is written."""
    pairs = len(keys)
    found = np.full((pairs, pairs), np.nan)
    q, v = (x[None, :, None].astype(np.float32) for x in (keys, values))
    write = jax.jit(
        lambda k, v, m: memory_of(k, k, v, memory=m, **_gates(memory_of, 1))
    )
    nothing = _gates(memory_of, pairs, write=False)
    read = jax.jit(lambda m: memory_of(q, 0 * q, 0 * v, memory=m, **nothing)[0])
    memory = None
    for t in range(pairs):
        now = slice(t, t + 1)
        _, memory = write(q[:, now], v[:, now], memory)
        wrong = np.linalg.norm(np.asarray(read(memory))[0, :, 0] - values, axis=1)
        found[: t + 1, t] = (wrong / np.linalg.norm(values, axis=1))[: t + 1]
    return found


def _gates(memory_of, time: int, *, write: bool = True) -> dict[str, np.ndarray]:
    """Return one gate per token; a read without a write leaves the memory as it is."""
    given = getattr(memory_of, "keywords", {})
    gates = {}
    if "ridge" in given or "write_strength" in given:
        gates["write_strength"] = np.full((1, time, 1), float(write), np.float32)
    if "log_decay" in given:
        decay = given["log_decay"] if write else 0.0
        gates["log_decay"] = np.full((1, time, 1), decay, np.float32)
    return gates


def draw(pairs: int = 32) -> Figure:
    """Return the figure: a row per kind of keys, a column per memory."""
    kinds = {"orthogonal keys": 0.0, "correlated keys": 0.7}
    values = np.random.default_rng(1).normal(size=(pairs, pairs))
    figure, axes = plt.subplots(
        len(kinds), len(MEMORIES), figsize=(10, 5.4), layout="constrained", sharex=True
    )
    for row, (kind, share) in zip(axes, kinds.items(), strict=True):
        keys = make_keys(pairs, share)
        for axis, (name, memory_of) in zip(row, MEMORIES.items(), strict=True):
            found = errors(memory_of, keys, values)
            image = axis.imshow(
                found,
                vmin=0,
                vmax=1,
                cmap="magma",
                origin="lower",
                extent=(0.5, pairs + 0.5, 0.5, pairs + 0.5),
            )
            last = np.nanmean(found[:, -1])
            axis.set_title(f"{name}\nmean at the end {last:.2g}", fontsize=9)
            axis.set_facecolor("0.85")
        row[0].set_ylabel(f"{kind}\npair")
    for axis in axes[-1]:
        axis.set_xlabel("pairs written")
    figure.colorbar(image, ax=axes, label="error of the value, relative", shrink=0.8)
    return figure


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "stored_pairs.png")
    draw().savefig(path, dpi=130)
    print(path)
