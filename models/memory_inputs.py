"""Inputs of a memory that is written at keys and read by queries."""

from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, PyTree


class MemoryInputs(NamedTuple):
    """Inputs that a layer computes from its tokens; gates in float32, queries scaled.

    Attributes:
        tokens: NamedTuple of the layer's operation; it has a field `query`.
        skip: term added to the read; None: nothing.
        valid: mask of real tokens; others do not change the memory. None: all are real.
        after: arrays that the layer's `finish` needs besides the read. A mixture cannot
            hold a layer that sets them.
    """

    tokens: Any
    skip: Float[Array, "b t h v"] | None = None
    valid: Bool[Array, "b t"] | None = None
    after: PyTree[Array] | None = None

    @property
    def query(self) -> Float[Array, "b t h k"]:
        """Queries of the tokens."""
        return self.tokens.query

    def with_query(self, query: Float[Array, "b t h k"] | None) -> "MemoryInputs":
        """Return the inputs with other queries."""
        return self._replace(tokens=self.tokens._replace(query=query))

    def only(self, valid: Bool[Array, "b t"] | None) -> "MemoryInputs":
        """Return the inputs with `valid` as the mask of real tokens."""
        return self if valid is None else self._replace(valid=valid)
