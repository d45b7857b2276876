"""Law of layers with several memories: only its own maps write a memory."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from .agreement import BrokenLaw
from .models.projection import PerMemory


def check_maps(subject: Any) -> None:
    """Check that each of several memories is written by its own maps only.

    The state of such a layer has a field `memories`, whose arrays are `b m ...`. Layers
    with one memory, or whose memories share all maps by option, pass.

    Args:
        subject: a `_Subject` of `memzoo.testing`.

    Raises:
        BrokenLaw: a map writes another memory; names the map.
    """
    own = {
        path: leaf
        for path, leaf in nnx.to_flat_state(subject.params)
        if isinstance(leaf, PerMemory)
    }
    if not hasattr(subject.state, "memories"):
        return
    count = jax.tree.leaves(subject.state.memories)[0].shape[1]
    stacked = {
        path for path, leaf in own.items() if path[-1] == "kernel" and leaf.ndim == 3
    }
    if not stacked:
        return

    def written(params: Any, weight: Any) -> Any:
        _, state = subject.merge(params)(jnp.asarray(subject.x), subject.state)
        sizes = (
            jnp.sum(jnp.square(leaf), axis=(0, *range(2, leaf.ndim)))
            for leaf in jax.tree.leaves(state.memories)
            if jnp.issubdtype(leaf.dtype, jnp.floating)
        )
        return jnp.sum(sum(sizes) * weight)

    pull = jax.jit(jax.vmap(jax.grad(written), in_axes=(None, 0)))
    gradients = nnx.to_flat_state(pull(subject.params, jnp.eye(count)))
    maps = {
        path
        for path, module in nnx.iter_modules(subject.layer)
        if isinstance(module, nnx.Linear)
    }
    for path, leaf in gradients:
        name = "/".join(map(str, path))
        size = np.abs(np.asarray(leaf[...]))
        if path in own and path in stacked:
            _check_own(name, size.reshape(count, count, -1).max(axis=2))
        elif tuple(path[:-1]) in maps and path not in own and size.max(initial=0) > 0:
            raise BrokenLaw(
                f"{name} writes into every memory; make the map with per_memory=True"
            )


def _check_own(name: str, size: np.ndarray) -> None:
    """Check that only a map's own memory (columns) is the one it writes (rows)."""
    others = size[~np.eye(len(size), dtype=bool)]
    if np.any(others > 0):
        raise BrokenLaw(f"{name} of one memory writes into another")
    if not np.all(np.diag(size) > 0):
        raise BrokenLaw(f"{name} of one memory does not write into it")
