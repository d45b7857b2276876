"""A chunk as a linear map of its values and of the memory before it."""

from typing import NamedTuple

from jaxtyping import Array, Float


class LinearChunk(NamedTuple):
    """The maps of one chunk: with S the memory before it and V its values,

        O = reads S + within V
        S' = kept S - erased S + writes^T V

    Rules whose memory is a linear function of the values have this form. It keeps the
    share of every value apart, so that an operation can weigh the shares.

    Attributes:
        reads: queries of the memory before the chunk.
        within: share of value j (last axis) in output i.
        writes: keys of the values in the memory after the chunk.
        kept: factor of the memory before the chunk; None: 1.
        erased: map of the memory before the chunk that is subtracted; None: 0.
    """

    reads: Float[Array, "b h c k"]
    within: Float[Array, "b h c c"]
    writes: Float[Array, "b h c k"]
    kept: Float[Array, "b #h"] | None
    erased: Float[Array, "b h k k"] | None = None
