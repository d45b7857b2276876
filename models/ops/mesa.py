"""Least squares over decayed tokens: two matrices, solved at every read (MesaNet).

H_t = a_t H_(t-1) + b_t k_t k_t^T, S_t = a_t S_(t-1) + b_t k_t v_t^T and
o_t = S_t^T x_t with (H_t + diag(r_t)) x_t = q_t (arXiv 2506.05233). x_t^T S_t is the
value at q_t of the linear map that fits the values to the keys with weights b and a
ridge r.

Both matrices are written as in `scalar_decay`. With H the matrix before a chunk, D, E
the decays `within` and `carried`, and X the chunk's solutions, all systems of a chunk
are multiplied at once:

    A X = E X H + (X K^T D) (b K) + r X

Conjugate gradients use this product; the backward pass solves the systems once more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from .chunk_decay import ChunkDecay, chunk_decay, keep, row_sum, scale
from .chunk_scan import put_memory, take_memory
from .conjugate_gradients import solve
from .matrix_product import exact_product
from .recurrence import Recurrence, token_first
from .scalar_decay import Chunk, read_chunk, write_chunk

Solver = Literal["conjugate_gradients", "exact"]


class MesaTokens(NamedTuple):
    """Tokens of least squares; a token with write strength 0 changes nothing.

    Attributes:
        query: right-hand sides.
        key: keys.
        value: values, written at the keys.
        ridge: diagonal that is added to H at this token's read, at least 0.
        write_strength: weight of the token in the least-squares problem.
        log_decay: logarithm of the decay, at most 0; None: no decay.
        mix: the read uses q + mix (x - q); None: x.
    """

    query: Float[Array, "b t h k"]
    key: Float[Array, "b t h k"]
    value: Float[Array, "b t h v"]
    ridge: Float[Array, "b t h k"]
    write_strength: Float[Array, "b t h"]
    log_decay: Float[Array, "b t h"] | None = None
    mix: Float[Array, "b t h"] | None = None


class MesaMemory(NamedTuple):
    """Weighted sums over the tokens.

    Attributes:
        key_key: H, the sum of k k^T.
        key_value: S, the sum of k v^T.
    """

    key_key: Float[Array, "b *m h k k"]
    key_value: Float[Array, "b *m h k v"]


class Part(NamedTuple):
    """A chunk with heads before tokens, in the type of the memory.

    Attributes:
        written: keys times write strengths.
        decay: decays between the tokens.
    """

    query: Float[Array, "b h c k"]
    key: Float[Array, "b h c k"]
    value: Float[Array, "b h c v"]
    ridge: Float[Array, "b h c k"]
    written: Float[Array, "b h c k"]
    mix: Float[Array, "b h c"] | None
    decay: ChunkDecay

    def added(self) -> MesaMemory:
        """Return the sums that the chunk adds to the memory."""
        return MesaMemory(
            *(
                write_chunk(self.written, values, self.decay, exact_product)
                for values in (self.key, self.value)
            )
        )


@dataclass(frozen=True, kw_only=True)
class Mesa:
    """The operation, with a choice of solver and ridge.

    Attributes:
        solver: conjugate gradients, or a Cholesky factor of every system.
        steps: largest number of conjugate gradient steps.
        relative_ridge: multiple of the Frobenius norm of H_t that is added to the
            ridge of every token (Gated KalmaNet, arXiv 2511.21016).
    """

    solver: Solver = "conjugate_gradients"
    steps: int = 30
    relative_ridge: float = 0.0

    def step(
        self, token: MesaTokens, memory: MesaMemory
    ) -> tuple[Float[Array, "b h v"], MesaMemory]:
        """Return one token's output (arrays without axis t) and the memory after it."""
        dtype = memory.key_key.dtype
        query, key, value, ridge, strength = (x.astype(dtype) for x in token[:5])
        decay = jnp.ones((), dtype)
        if token.log_decay is not None:
            decay = jnp.exp(token.log_decay.astype(dtype))[..., None, None]
        written = key * strength[..., None]
        memory = MesaMemory(
            memory.key_key * decay + written[..., None] * key[..., None, :],
            memory.key_value * decay + written[..., None] * value[..., None, :],
        )
        x = self.solution(query, ridge, memory.key_key)
        x = _mixed(query, x, token.mix)
        read = exact_product("bhk,bhkv->bhv", x, memory.key_value)
        return read.astype(token.value.dtype), memory

    def solution(
        self,
        query: Float[Array, "*axes k"],
        ridge: Float[Array, "*axes k"],
        matrix: Float[Array, "*axes k k"],
    ) -> Float[Array, "*axes k"]:
        """Return x with (H + diag(ridge)) x = q, the relative ridge included."""
        if self.relative_ridge:
            square = jnp.sum(matrix * matrix, axis=(-2, -1))
            ridge = ridge + self.relative_ridge * _root(square)[..., None]
        ridge = _positive(ridge)
        if self.solver == "exact":
            return _solve_exactly(matrix, ridge, query)

        def product(x: Array) -> Array:
            return exact_product("...k,...kl->...l", x, matrix) + ridge * x

        return solve(product, query, steps=self.steps)

    def chunk(
        self, memory: MesaMemory, tokens: MesaTokens, segment: Int[Array, "b c"] | None
    ) -> tuple[MesaMemory, Float[Array, "b c h v"], tuple]:
        """Return the memory after a chunk, its outputs, and the solutions to save.

        Args:
            memory: memory before the chunk.
            tokens: tokens of the chunk, `b c h ...`.
            segment: document starts in the chunk.
        """
        part = _part(tokens, segment, memory.key_key.dtype)
        x = self._solutions(part, memory.key_key, part.query)
        o = token_first(_read(part, memory, x), tokens.value)
        return _after(part, memory), o, (x,)

    def chunk_backward(
        self,
        memory: MesaMemory,
        tokens: MesaTokens,
        segment: Int[Array, "b c"] | None,
        saved: tuple[Float[Array, "b h c k"]],
        memory_cotangent: MesaMemory,
        o_cotangent: Float[Array, "b c h v"],
    ) -> tuple[MesaMemory, MesaTokens]:
        """Return the cotangents of the memory before a chunk and of its tokens.

        With g the cotangent of the solutions and A u = g, the cotangents of q, of the
        keys and of all else in A are those of u^T (q - A x), with x and u constant.

        Args:
            memory: memory before the chunk.
            tokens: as in `chunk`.
            segment: document starts in the chunk.
            saved: solutions of the forward pass.
            memory_cotangent: cotangent of the memory after the chunk.
            o_cotangent: cotangent of the outputs.
        """
        (x,) = saved

        def parts(memory: MesaMemory, tokens: MesaTokens, x: Array) -> tuple:
            part = _part(tokens, segment, memory.key_key.dtype)
            o = token_first(_read(part, memory, x), tokens.value)
            gap = part.query - self._product(part, memory.key_key)(x)
            return _after(part, memory), o, gap

        (_, _, gap), pull = jax.vjp(parts, memory, tokens, x)
        given = memory_cotangent, o_cotangent
        _, _, g = pull((*given, jnp.zeros_like(gap)))
        part = _part(tokens, segment, memory.key_key.dtype)
        u = self._solutions(part, memory.key_key, g)
        return pull((*given, u))[:2]

    def all_chunks(
        self,
        tokens: MesaTokens,
        segments: Int[Array, "n b c"] | None,
        which: Int[Array, "b n"] | None,
        memory: MesaMemory,
    ) -> tuple[Float[Array, "n b c h v"], MesaMemory]:
        """Return the outputs and the last memory; all systems are solved at once."""
        shape = tokens.query.shape[:2]
        flat, segment = jax.tree.map(_merge_rows, (tokens, segments))
        part = _part(flat, segment, memory.key_key.dtype)
        kept = part.decay._replace(within=None, carried=None, remaining=None)

        def body(memories: MesaMemory, chunk: tuple) -> tuple[MesaMemory, MesaMemory]:
            added, kept, chosen = chunk
            before = take_memory(memories, chosen)
            after = jax.tree.map(lambda a, b: keep(a, kept) + b, before, added)
            return put_memory(memories, chosen, after), before

        split = partial(jax.tree.map, lambda a: a.reshape(*shape, *a.shape[1:]))
        chosen = None if which is None else which.T
        chunks = (*split((part.added(), kept)), chosen)
        memory, before = jax.lax.scan(body, memory, chunks)
        before = jax.tree.map(_merge_rows, before)
        x = self._solutions(part, before.key_key, part.query)
        o = token_first(_read(part, before, x), tokens.value)
        return split(o), memory

    def _solutions(
        self,
        part: Part,
        before: Float[Array, "b h k k"],
        right: Float[Array, "b h c k"],
    ) -> Float[Array, "b h c k"]:
        """Return the solutions of a chunk's systems for the right-hand sides."""
        if self.solver == "exact":
            return _solve_exactly(
                _matrices(part, before), self._ridge(part, before), right
            )
        return solve(self._product(part, before), right, steps=self.steps)

    def _product(
        self, part: Part, before: Float[Array, "b h k k"]
    ) -> Callable[[Array], Array]:
        """Return the map of x to A x, one system per token."""
        ridge = self._ridge(part, before)

        def product(x: Float[Array, "b h c k"]) -> Float[Array, "b h c k"]:
            scores = exact_product("bhik,bhjk->bhij", x, part.key)
            chunk = Chunk(x, part.key, part.written, part.decay, scores)
            return read_chunk(chunk, before, exact_product) + ridge * x

        return product

    def _ridge(
        self, part: Part, before: Float[Array, "b h k k"]
    ) -> Float[Array, "b h c k"]:
        """Return the diagonal that is added to every H_t of a chunk."""
        if not self.relative_ridge:
            return _positive(part.ridge)
        norm = _root(_squared_norms(part, before))
        return _positive(part.ridge + self.relative_ridge * norm[..., None])


def _part(
    tokens: MesaTokens, segment: Int[Array, "b c"] | None, dtype: DTypeLike
) -> Part:
    query, key, value, ridge, strength = (
        jnp.swapaxes(x, 1, 2).astype(dtype) for x in tokens[:5]
    )
    log_decay, mix = (None if x is None else jnp.swapaxes(x, 1, 2) for x in tokens[5:])
    decay = chunk_decay(log_decay, segment, shape=key.shape[:3], dtype=dtype)
    return Part(query, key, value, ridge, scale(key, strength), mix, decay)


def _after(part: Part, memory: MesaMemory) -> MesaMemory:
    """Return the memory after a chunk."""
    return jax.tree.map(lambda a, b: keep(a, part.decay) + b, memory, part.added())


def _read(
    part: Part, memory: MesaMemory, x: Float[Array, "b h c k"]
) -> Float[Array, "b h c v"]:
    """Return S_t^T x_t for every token of a chunk."""
    x = _mixed(part.query, x, part.mix)
    scores = exact_product("bhik,bhjk->bhij", x, part.written)
    chunk = Chunk(x, part.written, part.value, part.decay, scores)
    return read_chunk(chunk, memory.key_value, exact_product)


def _matrices(part: Part, before: Float[Array, "b h k k"]) -> Float[Array, "b h c k k"]:
    """Return H_t for every token of a chunk, in memory c k^2."""
    pairs = part.key[..., :, None] * part.written[..., None, :]
    within = jnp.broadcast_to(part.decay.within, (*part.key.shape[:3], pairs.shape[2]))
    inside = exact_product("bhij,bhjkl->bhikl", within, pairs)
    before = before[:, :, None]
    if part.decay.carried is not None:
        before = before * part.decay.carried[..., None, None]
    return before + inside


def _squared_norms(
    part: Part, before: Float[Array, "b h k k"]
) -> Float[Array, "b h c"]:
    """Return |H_t|^2 in the Frobenius norm, without forming H_t.

    It is the square of a weighted sum of H before the chunk and of every k_j k_j^T,
    whose inner products are k_j^T H k_j and (k_i . k_j)^2.
    """
    scores = exact_product("bhik,bhjk->bhij", part.key, part.written)
    # (k_i . k_j)^2 with the weights of both.
    pairs = scores * jnp.swapaxes(scores, -1, -2)
    within = jnp.broadcast_to(part.decay.within, pairs.shape)
    inside = row_sum(exact_product("bhij,bhjl->bhil", within, pairs) * within)
    image = exact_product("bhjk,bhkl->bhjl", part.written, before)
    across = exact_product("bhij,bhj->bhi", within, row_sum(image * part.key))
    square = jnp.sum(before * before, axis=(-2, -1))[..., None]
    carried = part.decay.carried
    if carried is not None:
        across, square = across * carried, square * carried**2
    return square + 2 * across + inside


def _solve_exactly(
    matrix: Float[Array, "*axes k k"],
    ridge: Float[Array, "*axes k"],
    right: Float[Array, "*axes k"],
) -> Float[Array, "*axes k"]:
    """Return the solution of (H + diag(ridge)) x = b by a Cholesky factor."""
    unit = jnp.eye(ridge.shape[-1], dtype=ridge.dtype)
    unit = unit.reshape((1,) * (ridge.ndim - 1) + unit.shape)
    matrix = matrix + ridge[..., None] * unit
    factor = jax.scipy.linalg.cho_factor(matrix, lower=True)
    return jax.scipy.linalg.cho_solve(factor, right[..., None])[..., 0]


def _mixed(
    query: Float[Array, "*axes k"],
    x: Float[Array, "*axes k"],
    mix: Float[Array, "*axes"] | None,
) -> Float[Array, "*axes k"]:
    """Return q + mix (x - q), the vector that reads the values."""
    if mix is None:
        return x
    return query + mix.astype(x.dtype)[..., None] * (x - query)


def _positive(ridge: Float[Array, "*axes k"]) -> Float[Array, "*axes k"]:
    """Return the ridge with 1 in place of 0, which only tokens of padding have."""
    return jnp.where(ridge > 0, ridge, 1)


def _root(square: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """Return the square root, with gradient 0 at 0; rounding may make it negative."""
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


def _merge_rows(x: Array) -> Array:
    """Merge the axes of chunks and rows, the first two."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


@lru_cache(maxsize=64)
def mesa(
    *,
    solver: Solver = "conjugate_gradients",
    steps: int = 30,
    relative_ridge: float = 0.0,
) -> Recurrence[MesaTokens, MesaMemory]:
    """Return the recurrence of `Mesa` with these options."""
    rule = Mesa(solver=solver, steps=steps, relative_ridge=relative_ridge)
    return Recurrence(
        tokens=MesaTokens,
        memory_axes=MesaMemory("b h k k", "b h k v"),  # type: ignore[arg-type]
        step=rule.step,
        chunk=rule.chunk,
        chunk_backward=rule.chunk_backward,
        all_chunks=rule.all_chunks,
    )
