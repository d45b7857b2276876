"""A stand-in for a language model, with answers that can be computed by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx


class Bigram(nnx.Module):
    """The logits of a token are a row of a table; nothing is remembered."""

    def __init__(self, table: np.ndarray) -> None:
        self.table = nnx.Param(jnp.asarray(table))

    def init_state(self, batch_size, max_length):
        return ()

    def hidden(self, tokens, state, info=None):
        return self.table[...][tokens], state

    def logits(self, hidden):
        return hidden


@pytest.fixture
def bigram():
    """Return a `Bigram` from its table, or a random one from (vocabulary, seed)."""

    def make(table_or_size, seed=0):
        if isinstance(table_or_size, int):
            rng = np.random.default_rng(seed)
            shape = (table_or_size, table_or_size)
            return Bigram(rng.normal(size=shape).astype(np.float32))
        return Bigram(table_or_size)

    return make
