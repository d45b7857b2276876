"""Routing of recall's tokens in a mixture of memories."""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from ..data.batch import Batch
from ..data.mqar import MqarConfig
from ..data.pipeline import Pipeline
from ..models.block import Group
from ..models.interface import Layout
from ..models.language_model import LanguageModel
from ..models.mixture_of_memories import MixtureOfMemories, MixtureOfMemoriesConfig
from .recall import Row

KINDS = ("key", "value", "query", "filler")
"""Kinds of tokens: key or value of a pair, a key that is asked for, or filler."""

# Metrics of the rows, which have `block` in their settings.
ROUTED, ENTROPY = "routed", "routing_entropy"
ANSWERED, CHANCE = "answered_by_writer", "answered_by_chance"


class _Sums(NamedTuple):
    """Sums over the tokens of a batch."""

    chosen: Int[np.ndarray, "kinds m"]
    entropy: float
    answered: float
    read: Float[np.ndarray, "m"]
    wrote: Float[np.ndarray, "m"]
    tokens: int
    queries: int


def has_mixture(pattern: Iterable[Group]) -> bool:
    """Return whether a block of the pattern is a mixture of memories."""
    return any(
        isinstance(layer, MixtureOfMemoriesConfig)
        for group in pattern
        for layer in group.layers
    )


def routing_rows(
    model: LanguageModel, task: MqarConfig, *, examples: int, batch_size: int
) -> list[Row]:
    """Measure how a model's mixtures route the validation rows.

    For every mixture, with its index in the stack as `block` in the setting:

    - `routed`: with `kind` and `memory` in the setting, the share of the choices of the
      tokens of this kind that chose this memory. A token makes top_k choices; the
      shares of a kind sum to 1. `kind` "all" is the load.
    - `routing_entropy`: mean entropy of the router's probabilities, nats.
    - `answered_by_writer`: share of a query's read weight on memories that the token of
      its value wrote.
    - `answered_by_chance`: the same share for another row's value; top_k / num_memories
      if all memories are used equally, 1 if only top_k are used.

    Args:
        model: a language model; it is not changed.
        task: recall with one number of pairs.
        examples: number of rows.
        batch_size: rows computed at once.
    """
    (setting,) = task.kinds
    found: dict[int, list[_Sums]] = {}
    with Pipeline(task, "validation", batch_size, num_rows=examples) as batches:
        for batch in batches:
            for block, sums in _sums(model, batch, task).items():
                found.setdefault(block, []).append(sums)
    rows: list[Row] = []
    for block, parts in found.items():
        total: Any = jax.tree.map(lambda *each: sum(each), *parts)
        here = {**setting, "block": block}
        for kind, by_memory in zip(
            (*KINDS, "all"), (*total.chosen, total.chosen.sum(0)), strict=True
        ):
            count = int(by_memory.sum())
            for memory, number in enumerate(by_memory):
                where = {**here, "kind": kind, "memory": memory}
                rows.append(_row(where, ROUTED, number / max(count, 1), count))
        entropy = total.entropy / total.tokens
        rows.append(_row(here, ENTROPY, entropy, total.tokens))
        answered = total.answered / total.queries
        rows.append(_row(here, ANSWERED, answered, total.queries))
        chance = total.read @ total.wrote / total.queries**2
        rows.append(_row(here, CHANCE, chance, total.queries))
    return rows


def _row(setting: dict[str, Any], metric: str, value: Any, count: int) -> Row:
    return {
        "setting": setting,
        "metric": metric,
        "value": float(value),
        "count": count,
    }


def _sums(model: LanguageModel, batch: Batch, task: MqarConfig) -> dict[int, _Sums]:
    """Return the sums of every mixture, by its index in the stack."""
    graphdef, parameters = nnx.split(model)
    routings = _routings(graphdef, parameters, jnp.asarray(batch.tokens))
    kinds = kinds_of(batch)
    writers = written_places(batch, task)
    sums = {}
    for block, (chosen, weight, probability) in routings.items():
        count = probability.shape[-1]
        one_hot = np.asarray(chosen)[..., None] == np.arange(count)
        there = one_hot.any(axis=2)
        by_kind = np.stack([there[kind].sum(0) for kind in kinds])
        p = np.asarray(probability, np.float64)
        entropy = -np.sum(p * np.log(np.maximum(p, 1e-300)))
        share = np.sum(one_hot * np.asarray(weight)[..., None], axis=2)
        row = np.arange(len(there))[:, None]
        read, wrote = share[row, batch.target_positions], there[row, writers]
        sums[block] = _Sums(
            chosen=by_kind,
            entropy=entropy,
            answered=np.sum(read * wrote),
            read=read.sum((0, 1)),
            wrote=wrote.sum((0, 1)),
            tokens=batch.tokens.size,
            queries=batch.targets.size,
        )
    return sums


@functools.partial(jax.jit, static_argnums=0)
def _routings(
    graphdef: Any, parameters: Any, tokens: Int[Array, "b t"]
) -> dict[int, tuple[Int[Array, "b t top"], Float[Array, "b t top"], Array]]:
    """Return the choices of every mixture, computed block by block, by index in the
    stack."""
    model = nnx.merge(graphdef, parameters)
    x = jnp.take(model.embedding[...], tokens, axis=0)
    x = x.astype(jnp.dtype(model.config.dtype))
    states = model.init_state(tokens.shape[0], tokens.shape[1])
    routings, place = {}, 0
    for group, config, held in zip(
        model.stack.groups, model.config.pattern, states, strict=True
    ):
        definition, arrays = nnx.split(group)
        for repeat in range(config.repeats):
            at = functools.partial(jax.tree.map, lambda a, i=repeat: a[i])
            blocks = nnx.merge(definition, at(arrays)).blocks
            for block, state in zip(blocks, at(held), strict=True):
                if isinstance(block.mixer, MixtureOfMemories):
                    routings[place] = tuple(block.mixer.routing(block.norm(x)))
                x, _ = block.sequence(x, state, Layout())
                place += 1
    return routings


def kinds_of(batch: Batch) -> Bool[np.ndarray, "kinds b t"]:
    """Return a mask of the tokens for each of `KINDS`."""
    assert batch.context is not None and batch.target_positions is not None
    place = np.arange(batch.tokens.shape[1])[None, :]
    pairs = place < batch.context[:, None]
    query = np.zeros(batch.tokens.shape, bool)
    np.put_along_axis(query, batch.target_positions, True, axis=1)
    key = pairs & (place % 2 == 0)
    return np.stack([key, pairs & ~key, query, ~pairs & ~query])


def written_places(batch: Batch, task: MqarConfig) -> Int[np.ndarray, "b n"]:
    """Return the position of every query's value in the last block of pairs."""
    assert batch.target_positions is not None
    (pairs,) = task.settings
    last = 2 * pairs * (task.num_passes - 1)
    asked = np.take_along_axis(batch.tokens, batch.target_positions, axis=1)
    keys = batch.tokens[:, last : last + 2 * pairs : 2]
    number = (asked[:, :, None] == keys[:, None, :]).argmax(axis=2)
    return last + 2 * number + 1
