"""A scan over windows that restart at every document.

A document is split into windows of `update_every` tokens, from its first token. A call
may begin inside a window, and a row may hold documents of any length. So tokens are
moved to slots, in which every window has its full size and is aligned with the windows
of the other rows, and are moved back afterwards.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree

from .chunk_scan import merge_chunks, split_chunks
from .routing import move

Carry = TypeVar("Carry")


class Part(NamedTuple):
    """A window, or a part of one, as seen by the body of a `window_scan`.

    Attributes:
        valid: True for slots that hold a token.
        place: position of the token in its document.
        opens: True if a window begins at the first slot.
        fresh: True if a document begins at the first slot; None: no document begins.
    """

    valid: Bool[Array, "b c"]
    place: Int[Array, "b c"]
    opens: Bool[Array, "b"]
    fresh: Bool[Array, "b"] | None


Body = Callable[[Carry, PyTree, Part], tuple[Carry, PyTree]]


class _Grid(NamedTuple):
    """Slots: `windows` per round, each with `parts` parts of `size` slots."""

    windows: int
    parts: int
    size: int
    group: int

    @property
    def window(self) -> int:
        return self.parts * self.size

    @property
    def slots(self) -> int:
        return self.windows * self.window


def window_scan(
    body: Body,
    carry: Carry,
    tokens: PyTree,
    *,
    place: Int[Array, "b t"],
    update_every: int,
    chunk_size: int,
    reset: Bool[Array, "b t"] | None = None,
    valid: Bool[Array, "b t"] | None = None,
    prepare: Callable[[PyTree, Part], PyTree] | None = None,
    aligned: bool = False,
    policy: Callable[..., Any] | None = None,
) -> tuple[PyTree, Carry]:
    """Return the outputs of all tokens, and the carry after the last.

    The body is rematerialised in the backward pass: only the carry at the start of
    every chunk and the products that the policy names are kept.

    If many documents make the windows outnumber those of a row without documents by
    half, the scan runs again for the rest. The result is exact, but slower.

    Args:
        body: `(carry, tokens, part) -> (carry, outputs)`, where leaves of tokens and
            outputs are `b c ...`. Slots that hold no token are zero and must not
            change the carry.
        carry: any tree of arrays.
        tokens: any tree of arrays `b t ...`.
        place: position of every token in its document.
        update_every: tokens per window.
        chunk_size: tokens that are rematerialised at a time; the body receives a longer
            window in parts.
        reset: True where a document begins.
        valid: mask of real tokens, which are at the front of a row.
        prepare: `(tokens, part) -> tree`, computed for all parts before the scan; the
            body receives the tree instead of the tokens. None: it receives the tokens.
        aligned: True if a window begins at the first token of every row.
        policy: policy of `jax.checkpoint`: values of the body to keep for the backward
            pass.
    """
    time = place.shape[1]
    documents = reset is not None
    grid, rounds = _grid(time, update_every, chunk_size, documents, aligned)
    real = jnp.ones_like(place, bool) if valid is None else valid
    offset = place % update_every
    starts = jnp.logical_and(offset == 0, real)
    index = jnp.cumsum(starts, axis=1, dtype=jnp.int32) - starts[:, :1]
    slot = jnp.where(real, index * grid.window + offset, -1)
    begins = None if reset is None else jnp.logical_and(reset, real)
    straight = aligned and not documents and grid.window == update_every
    run = partial(
        _round, body, policy, prepare, tokens, place, begins, slot, grid, straight
    )
    if rounds == 1:
        return run(carry, jnp.int32(0))
    shapes = jax.eval_shape(run, carry, jnp.int32(0))[0]
    outputs = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    num_windows = jnp.max(jnp.where(real, index, 0)) + 1

    @jax.checkpoint
    def again(carry: Carry, number: Array) -> tuple[PyTree, Carry]:
        return run(carry, number)

    def one(both: tuple[Carry, PyTree], number: Array) -> tuple[Any, None]:
        def go(both: tuple[Carry, PyTree]) -> tuple[Carry, PyTree]:
            carry, outputs = both
            new, carry = again(carry, number)
            return carry, jax.tree.map(jnp.add, outputs, new)

        needed = number * grid.windows < num_windows
        return jax.lax.cond(needed, go, lambda both: both, both), None

    (carry, outputs), _ = jax.lax.scan(
        one, (carry, outputs), jnp.arange(rounds, dtype=jnp.int32)
    )
    return outputs, carry


def _grid(
    time: int, update_every: int, chunk_size: int, documents: bool, aligned: bool
) -> tuple[_Grid, int]:
    size = min(update_every, chunk_size)
    parts = -(-update_every // size)
    group = max(1, chunk_size // update_every)
    before = 0 if aligned else update_every - 1
    plain = -(-(time + before) // update_every)
    most = time if documents else plain
    windows = min(most, plain + max(4, plain // 2)) if documents else plain
    group = min(group, windows)
    windows = -(-windows // group) * group
    return _Grid(windows, parts, size, group), -(-most // windows)


def _round(
    body: Body,
    policy: Callable[..., Any] | None,
    prepare: Callable[[PyTree, Part], PyTree] | None,
    tokens: PyTree,
    place: Int[Array, "b t"],
    begins: Bool[Array, "b t"] | None,
    slot: Int[Array, "b t"],
    grid: _Grid,
    straight: bool,
    carry: Carry,
    number: Int[Array, ""],
) -> tuple[PyTree, Carry]:
    """Return outputs and carry of one scan over the grid, from window `number` on.

    `straight`: slots are indices in the row, so that no token has to move.
    """
    slot = slot - number * grid.slots
    slot = jnp.where(jnp.logical_and(slot >= 0, slot < grid.slots), slot, -1)
    rows, time = slot.shape
    token = slot
    if not straight:
        token = jnp.full((rows, grid.slots), -1, jnp.int32)
        token = token.at[
            jnp.arange(rows)[:, None], jnp.where(slot >= 0, slot, grid.slots)
        ].set(jnp.arange(time, dtype=jnp.int32)[None, :], mode="drop")

    def place_slots(x: Array) -> Array:
        x = (
            _resized(x, slot, grid.slots)
            if straight
            else move(x, token, slot[:, :, None])
        )
        x = split_chunks(x, grid.size)
        each = grid.group * grid.parts
        return x.reshape(x.shape[0] // each, each, *x.shape[1:])

    valid = place_slots(slot >= 0)
    places = place_slots(place)
    fresh = None if begins is None else place_slots(begins)[..., 0]
    first = jnp.arange(grid.group * grid.parts) % grid.parts == 0
    opens = jnp.logical_and(valid[..., 0], first[None, :, None])
    parts = Part(valid, places, opens, fresh)
    tokens = jax.tree.map(place_slots, tokens)
    if prepare is not None:
        tokens = jax.vmap(jax.vmap(prepare))(tokens, parts)

    # The scan itself keeps the forward and the backward pass apart.
    @partial(jax.checkpoint, policy=policy, prevent_cse=False)
    def chunk(carry: Carry, chunk: tuple[PyTree, Part]) -> tuple[Carry, PyTree]:
        if grid.group * grid.parts > 1:
            return jax.lax.scan(lambda c, x: body(c, *x), carry, chunk)
        carry, outputs = body(carry, *jax.tree.map(lambda a: a[0], chunk))
        return carry, jax.tree.map(lambda a: a[None], outputs)

    def skip_empty(carry: Carry, inputs: tuple[PyTree, Part]) -> tuple[Carry, PyTree]:
        shapes = jax.eval_shape(chunk, carry, inputs)[1]

        def nothing(carry: Carry, inputs: Any) -> tuple[Carry, PyTree]:
            del inputs
            zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
            return carry, zeros

        return jax.lax.cond(jnp.any(inputs[1].valid), chunk, nothing, carry, inputs)

    # Without documents at most one window is empty, which costs less than a branch.
    run = chunk if begins is None else skip_empty
    carry, outputs = jax.lax.scan(run, carry, (tokens, parts))

    def take_tokens(y: Array) -> Array:
        y = y.reshape(y.shape[0] * y.shape[1], *y.shape[2:])
        y = merge_chunks(y, grid.slots)
        return _resized(y, slot, time) if straight else move(y, slot, token[:, :, None])

    return jax.tree.map(take_tokens, outputs), carry


def _resized(x: Array, slot: Int[Array, "b t"], size: int) -> Array:
    """Return `x` with `size` tokens per row, padded with zeros."""
    x = x[:, :size]
    there = jnp.pad(slot >= 0, [(0, 0), (0, max(0, size - slot.shape[1]))])
    there = there[:, :size]
    x = jnp.pad(x, [(0, 0), (0, size - x.shape[1])] + [(0, 0)] * (x.ndim - 2))
    there = there.reshape(there.shape + (1,) * (x.ndim - 2))
    return jnp.where(there, x, jnp.zeros((), x.dtype))
